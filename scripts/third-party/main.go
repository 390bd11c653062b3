// Command third-party writes THIRD_PARTY.md: what others wrote that the programs carry, with its licence.
//
// The lists come from `cargo metadata` and the rig's go.mod files. With --check it only compares the names and
// versions of the committed file with them, which needs no module cache.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const output = "THIRD_PARTY.md"

// The packages whose programs are handed out; testkit and tests are not.
var shipped = []string{"flotilla-hub", "flotilla-agent", "flotilla-cli"}

// A module of the rig, and what its programs are for.
var modules = []struct{ title, dir string }{
	{"Go modules of kustomize, the reference renderer of the hub's image", "testkit/rig/kustomize"},
	{"Go modules of etcd and Kubernetes, compiled for tests and the demo, handed out with nothing", "testkit/rig/kubernetes"},
	{"Go modules of kwok, compiled for tests and the demo, handed out with nothing", "testkit/rig/kwok"},
}

// C libraries that crates compile from their own copy. Cargo's metadata names only the licence of the binding.
var native = []entry{
	{"jemalloc", "in tikv-jemalloc-sys", "BSD-2-Clause"},
	{"libgit2", "in libgit2-sys", "GPL-2.0-only WITH linking exception (its COPYING)"},
	{"zlib", "in libz-sys", "Zlib"},
	{"zstd", "in zstd-sys", "BSD-3-Clause OR GPL-2.0-only, used under BSD-3-Clause"},
}

type entry struct{ name, version, licence string }

type moduleVersion struct{ Path, Version string }

type section struct {
	title   string
	entries []entry
}

func main() {
	check := flag.Bool("check", false, "compare names and versions, write nothing")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(check bool) error {
	crates, err := rustCrates()
	if err != nil {
		return fmt.Errorf("list crates: %w", err)
	}
	sections := []section{{"Rust crates of hub, agent and command", crates}, {"C libraries compiled into them", native}}
	for _, module := range modules {
		entries, err := goModules(module.dir, !check)
		if err != nil {
			return fmt.Errorf("list modules of %s: %w", module.dir, err)
		}
		sections = append(sections, section{module.title, entries})
	}
	if check {
		return compare(sections)
	}
	return os.WriteFile(output, []byte(render(sections)), 0o644)
}

// Before SPDX expressions, manifests put a slash between licences to choose from.
var oldForm = regexp.MustCompile(` ?/ ?`)

// rustCrates follows the normal dependencies of what is handed out. Build scripts and tests are not in the programs.
func rustCrates() ([]entry, error) {
	text, err := command(".", "cargo", "metadata", "--format-version", "1", "--locked",
		"--filter-platform", "x86_64-unknown-linux-gnu")
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Packages []struct {
			ID, Name, Version string
			License, Source   *string
		}
		Resolve struct {
			Nodes []struct {
				ID   string
				Deps []struct {
					Pkg      string
					DepKinds []struct{ Kind *string } `json:"dep_kinds"`
				}
			}
		}
	}
	if err := json.Unmarshal(text, &metadata); err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for _, node := range metadata.Resolve.Nodes {
		for _, dep := range node.Deps {
			for _, kind := range dep.DepKinds {
				if kind.Kind == nil {
					needs[node.ID] = append(needs[node.ID], dep.Pkg)
					break
				}
			}
		}
	}
	var next []string
	for _, pkg := range metadata.Packages {
		if slices.Contains(shipped, pkg.Name) {
			next = append(next, pkg.ID)
		}
	}
	reached := map[string]bool{}
	for len(next) > 0 {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		if !reached[id] {
			reached[id] = true
			next = append(next, needs[id]...)
		}
	}
	var entries []entry
	for _, pkg := range metadata.Packages {
		if pkg.Source == nil || !reached[pkg.ID] {
			continue
		}
		if pkg.License == nil {
			return nil, fmt.Errorf("%s %s names no licence", pkg.Name, pkg.Version)
		}
		entries = append(entries, entry{pkg.Name, pkg.Version, oldForm.ReplaceAllString(*pkg.License, " OR ")})
	}
	return sorted(entries), nil
}

// goModules reads what a module requires, which since Go 1.17 is all its programs are made of. The licences are asked
// only where they are wanted: that may have to fetch a module.
func goModules(dir string, licences bool) ([]entry, error) {
	text, err := command(dir, "go", "mod", "edit", "-json")
	if err != nil {
		return nil, err
	}
	var manifest struct {
		Require []moduleVersion
		Replace []struct{ Old, New moduleVersion }
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, err
	}
	var entries []entry
	for _, required := range manifest.Require {
		for _, replace := range manifest.Replace {
			if replace.Old.Path == required.Path {
				required = replace.New
			}
		}
		entries = append(entries, entry{name: required.Path, version: required.Version})
	}
	if licences {
		if err := readLicences(dir, entries); err != nil {
			return nil, err
		}
	}
	return sorted(entries), nil
}

func readLicences(dir string, entries []entry) error {
	arguments := []string{"mod", "download", "-json"}
	for _, entry := range entries {
		arguments = append(arguments, entry.name+"@"+entry.version)
	}
	text, err := command(dir, "go", arguments...)
	if err != nil {
		return err
	}
	folders := map[string]string{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	for {
		var module struct{ Path, Dir string }
		if err := decoder.Decode(&module); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		folders[module.Path] = module.Dir
	}
	for i := range entries {
		licence, err := licenceIn(folders[entries[i].name])
		if err != nil {
			return fmt.Errorf("%s: %w", entries[i].name, err)
		}
		entries[i].licence = licence
	}
	return nil
}

// What is said in one licence and in no other, after white space is made equal; the first that is found wins.
var marks = []struct{ licence, says string }{
	{"Apache-2.0", "Apache License Version 2.0"},
	{"MPL-2.0", "Mozilla Public License"},
	{"BSD-3-Clause", "Neither the name"},
	{"BSD-3-Clause", "endorse or promote products derived"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce"},
	{"ISC", "Permission to use, copy, modify, and"},
	{"MIT", "Permission is hereby granted, free of charge"},
	{"Apache-2.0", "http://www.apache.org/licenses/LICENSE-2.0"},
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying)`)

func licenceIn(dir string) (string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	found := []string{}
	for _, file := range files {
		if file.IsDir() || !licenceFile.MatchString(file.Name()) || strings.HasSuffix(file.Name(), ".docs") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil {
			return "", err
		}
		flat := strings.Join(strings.Fields(string(text)), " ")
		for _, mark := range marks {
			if strings.Contains(flat, mark.says) {
				found = append(found, mark.licence)
				break
			}
		}
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return "", fmt.Errorf("no licence is known in %s", dir)
	}
	return strings.Join(found, " AND "), nil
}

func render(sections []section) string {
	var text strings.Builder
	text.WriteString("# Work of others\n\nWritten by `make gen`; do not edit. Flotilla itself is under Apache-2.0, see LICENSE.\n")
	for _, section := range sections {
		fmt.Fprintf(&text, "\n## %s\n\n| name | version | licence |\n|---|---|---|\n", section.title)
		for _, entry := range section.entries {
			fmt.Fprintf(&text, "| %s | %s | %s |\n", entry.name, entry.version, entry.licence)
		}
	}
	return text.String()
}

// compare takes the committed file apart again and compares all but the licences.
func compare(sections []section) error {
	text, err := os.ReadFile(output)
	if err != nil {
		return err
	}
	keys := func(text string) map[string]bool {
		found := map[string]bool{}
		title := ""
		for line := range strings.Lines(text) {
			if heading, is := strings.CutPrefix(line, "## "); is {
				title = strings.TrimSpace(heading)
			} else if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && len(cells) > 2 {
				found[title+": "+strings.TrimPrefix(cells[0], "| ")+" "+cells[1]] = true
			}
		}
		return found
	}
	committed, current := keys(string(text)), keys(render(sections))
	var differences []string
	for key := range committed {
		if !current[key] {
			differences = append(differences, "gone: "+key)
		}
	}
	for key := range current {
		if !committed[key] {
			differences = append(differences, "new: "+key)
		}
	}
	if len(differences) == 0 {
		return nil
	}
	slices.Sort(differences)
	return fmt.Errorf("%s\n%s is out of date: run `make gen`", strings.Join(differences, "\n"), output)
}

func sorted(entries []entry) []entry {
	slices.SortFunc(entries, func(a, b entry) int {
		return strings.Compare(a.name+" "+a.version, b.name+" "+b.version)
	})
	return entries
}

func command(dir, name string, arguments ...string) ([]byte, error) {
	command := exec.Command(name, arguments...)
	command.Dir = dir
	command.Stderr = os.Stderr
	return command.Output()
}
