// Command kustomize answers, for the differential tests, what kustomize itself makes of a directory.
//
// It reads one JSON request a line and writes one JSON answer a line. Files live in memory; nothing is fetched:
// HTTP fails at once and no program is found in PATH.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/openapi"
)

// request is one directory to build.
type request struct {
	ID    string            `json:"id"`
	Files map[string]string `json:"files"`
	Dir   string            `json:"dir"`
	// AnyFile lifts the rule that files must lie in or below the kustomization that names them.
	AnyFile bool `json:"anyFile"`
}

// answer carries what kustomize printed, or why it failed.
type answer struct {
	ID      string  `json:"id"`
	Error   string  `json:"error,omitempty"`
	YAML    string  `json:"yaml,omitempty"`
	Seconds float64 `json:"seconds"`
}

type offline struct{}

func (offline) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("offline")
}

func main() {
	http.DefaultTransport = offline{}
	_ = os.Setenv("PATH", "")
	log.SetOutput(io.Discard)
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var r request
			if err := json.Unmarshal(line, &r); err != nil {
				_ = out.Encode(answer{Error: "request: " + err.Error()})
			} else {
				_ = out.Encode(respond(r))
			}
		}
		if err != nil {
			return
		}
	}
}

func respond(r request) answer {
	start := time.Now()
	text, err := build(r)
	a := answer{ID: r.ID, YAML: text, Seconds: time.Since(start).Seconds()}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func build(r request) (text string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	// Parsing the built-in document takes most of a build; only a source with a document of its own needs a reset.
	for _, content := range r.Files {
		if strings.Contains(content, "openapi") {
			openapi.ResetOpenAPI()
			defer openapi.ResetOpenAPI()
			break
		}
	}
	fs := filesys.MakeFsInMemory()
	for name, content := range r.Files {
		if err := fs.WriteFile(path.Join("/", name), []byte(content)); err != nil {
			return "", err
		}
	}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified
	if r.AnyFile {
		options.LoadRestrictions = types.LoadRestrictionsNone
	}
	m, err := krusty.MakeKustomizer(options).Run(fs, path.Join("/", r.Dir))
	if err != nil {
		return "", err
	}
	out, err := m.AsYaml()
	return string(out), err
}
