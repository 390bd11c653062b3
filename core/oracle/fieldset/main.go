// Command fieldset answers, one JSON line for each question, whether a set of field paths is the union of two
// others, by the code that the API server uses for managedFields.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

type question struct {
	A     json.RawMessage `json:"a"`
	B     json.RawMessage `json:"b"`
	Union json.RawMessage `json:"union"`
}

type answer struct {
	Equal bool   `json:"equal"`
	Error string `json:"error"`
	Union string `json:"union"`
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			os.Exit(1)
		}
		if err := out.Encode(compare(q)); err != nil {
			os.Exit(1)
		}
	}
}

func compare(q question) answer {
	var a, b, ours fieldpath.Set
	for raw, set := range map[*json.RawMessage]*fieldpath.Set{&q.A: &a, &q.B: &b, &q.Union: &ours} {
		if err := set.FromJSON(bytes.NewReader(*raw)); err != nil {
			return answer{Error: err.Error()}
		}
	}
	union := a.Union(&b)
	text, err := union.ToJSON()
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Equal: union.Equals(&ours), Union: string(text)}
}
