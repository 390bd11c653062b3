// Command sourceignore answers, one JSON line for each question, which of the given paths Flux leaves out of an
// artifact. Patterns come in files, each scoped to its folder, and in the text of spec.ignore.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"

	"github.com/fluxcd/pkg/sourceignore"
	"github.com/fluxcd/pkg/sourceignore/gitignore"
)

type question struct {
	Files []struct {
		Folder []string `json:"folder"`
		Text   string   `json:"text"`
	} `json:"files"`
	Spec  *string `json:"spec"`
	Paths []struct {
		Path   []string `json:"path"`
		Folder bool     `json:"folder"`
	} `json:"paths"`
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
		if err := out.Encode(excluded(q)); err != nil {
			os.Exit(1)
		}
	}
}

// excluded follows source-controller: patterns of the files, then of the spec; the defaults only where there is
// neither.
func excluded(q question) []bool {
	var patterns []gitignore.Pattern
	for _, file := range q.Files {
		patterns = append(patterns, sourceignore.ReadPatterns(strings.NewReader(file.Text), file.Folder)...)
	}
	if q.Spec != nil {
		patterns = append(patterns, sourceignore.ReadPatterns(strings.NewReader(*q.Spec), nil)...)
	}
	var matcher gitignore.Matcher
	if len(patterns) == 0 {
		matcher = sourceignore.NewDefaultMatcher(nil, nil)
	} else {
		matcher = sourceignore.NewMatcher(append(sourceignore.VCSPatterns(nil), patterns...))
	}
	answers := make([]bool, 0, len(q.Paths))
	for _, p := range q.Paths {
		answers = append(answers, matcher.Match(p.Path, p.Folder))
	}
	return answers
}
