package main

import (
	"fmt"

	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// parseSet applies one argument of a --set flag over Values, and describes the result.
func parseSet(asked request) (answer, error) {
	values, err := readValues(asked.Values)
	if err != nil {
		return answer{}, err
	}
	if err := applySet(asked.Kind, asked.Text, values); err != nil {
		return answer{}, err
	}
	return answer{Output: describe(values)}, nil
}

func applySet(kind, text string, values map[string]any) error {
	switch kind {
	case "", "set":
		return strvals.ParseInto(text, values)
	case "string":
		return strvals.ParseIntoString(text, values)
	case "json":
		return strvals.ParseJSON(text, values)
	case "literal":
		return strvals.ParseLiteralInto(text, values)
	case "file":
		// The text of a file is its name, so that the answer needs no file.
		return strvals.ParseIntoFile(text, values, func(name []rune) (any, error) { return "<" + string(name) + ">", nil })
	default:
		return fmt.Errorf("no kind %s", kind)
	}
}

func readValues(text string) (map[string]any, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		return nil, err
	}
	if values == nil {
		values = map[string]any{}
	}
	return values, nil
}
