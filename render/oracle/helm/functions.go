package main

import (
	"fmt"
	"sort"
	"strings"
	"text/template"
	_ "unsafe" // for go:linkname

	_ "helm.sh/helm/v4/pkg/engine"
)

// engineFunctions is the engine's own list, which it does not export.
//
//go:linkname engineFunctions helm.sh/helm/v4/pkg/engine.funcMap
func engineFunctions() template.FuncMap

// predefined are the functions of text/template, which exports no list of them either.
const predefined = "and call eq ge gt html index js le len lt ne not or print printf println slice urlquery"

// listFunctions returns a line for each function a template may call: its name, and its Go type unless it is one
// of text/template's.
func listFunctions(request) (answer, error) {
	functions := engineFunctions()
	// The engine adds this one when it renders, over the one it has from sprig.
	functions["fail"] = func(string) (string, error) { return "", nil }
	var lines []string
	for name, function := range functions {
		lines = append(lines, fmt.Sprintf("%s %T", name, function))
	}
	for _, name := range strings.Fields(predefined) {
		if _, err := template.New("").Parse("{{ if false }}{{ " + name + " }}{{ end }}"); err != nil {
			return answer{}, err
		}
		lines = append(lines, name)
	}
	sort.Strings(lines)
	return answer{Output: strings.Join(lines, "\n")}, nil
}
