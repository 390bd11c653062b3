package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// marshalYAML writes a JSON text's value as YAML.
func marshalYAML(asked request) (answer, error) {
	value, err := decode(asked.Text)
	if err != nil {
		return answer{}, err
	}
	written, err := yaml.Marshal(value)
	return answer{Output: string(written)}, err
}

// unmarshalYAML reads YAML and answers with JSON.
func unmarshalYAML(asked request) (answer, error) {
	read, err := yaml.YAMLToJSON([]byte(asked.Text))
	return answer{Output: string(read)}, err
}

// strictYAML is unmarshalYAML with duplicate keys refused.
func strictYAML(asked request) (answer, error) {
	read, err := yaml.YAMLToJSONStrict([]byte(asked.Text))
	return answer{Output: string(read)}, err
}

// decode reads JSON with integers kept as integers.
func decode(text string) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return numbers(value), nil
}

func numbers(value any) any {
	switch typed := value.(type) {
	case map[string]any:
		for key, item := range typed {
			typed[key] = numbers(item)
		}
	case []any:
		for index, item := range typed {
			typed[index] = numbers(item)
		}
	case json.Number:
		if signed, err := strconv.ParseInt(string(typed), 10, 64); err == nil {
			return signed
		}
		if unsigned, err := strconv.ParseUint(string(typed), 10, 64); err == nil {
			return unsigned
		}
		float, _ := typed.Float64()
		return float
	}
	return value
}

// describe writes a value with the kind of each number, which JSON does not tell.
func describe(value any) string {
	switch typed := value.(type) {
	case nil:
		return "nil"
	case string:
		return strconv.Quote(typed)
	case map[string]any:
		parts := make([]string, 0, len(typed))
		for key := range typed {
			parts = append(parts, key)
		}
		sort.Strings(parts)
		for index, key := range parts {
			parts[index] = strconv.Quote(key) + ": " + describe(typed[key])
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, len(typed))
		for index, item := range typed {
			parts[index] = describe(item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprintf("%T(%v)", typed, typed)
	}
}
