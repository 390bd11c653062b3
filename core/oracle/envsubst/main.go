// Command envsubst answers, one JSON line for each, what Flux's own substitution makes of a text. Values travel
// in hexadecimal, since neither variables nor results need be UTF-8.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/envsubst"
)

type question struct {
	Text      string            `json:"text"`
	Variables map[string]string `json:"variables"`
	Strict    bool              `json:"strict"`
}

type answer struct {
	Value string `json:"value"`
	Error string `json:"error"`
}

func main() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for in.More() {
		var q question
		if err := in.Decode(&q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(evaluate(q)); err != nil {
			os.Exit(1)
		}
	}
}

func evaluate(q question) (a answer) {
	defer func() {
		if r := recover(); r != nil {
			a = answer{Error: fmt.Sprint("panic: ", r)}
		}
	}()
	value, err := envsubst.Eval(q.Text, func(name string) (string, bool) {
		encoded, ok := q.Variables[name]
		raw, _ := hex.DecodeString(encoded)
		return string(raw), ok || !q.Strict
	})
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Value: hex.EncodeToString([]byte(value))}
}
