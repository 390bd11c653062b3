// Command helm3-oracle answers what the last Helm of the third series does. The tests compare its answers with
// those of the Helm that decides, and the list of differences in the documents with what they find.
//
// It takes the operations "template" and "chart_template" of the other oracle, in the same form.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

type request struct {
	Op        string            `json:"op"`
	Templates map[string]string `json:"templates"`
	Values    string            `json:"values"`
	Files     map[string][]byte `json:"files"`
	Args      []string          `json:"args"`
}

type answer struct {
	Output string            `json:"output"`
	Files  map[string]string `json:"files,omitempty"`
	Error  string            `json:"error,omitempty"`
	Failed bool              `json:"failed"`
}

func main() {
	log.SetOutput(io.Discard)
	chartutil.DefaultCapabilities.KubeVersion = clientVersion()
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	answers := bufio.NewWriter(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		encoded, err := json.Marshal(handle(line))
		if err != nil {
			encoded, _ = json.Marshal(answer{Error: err.Error(), Failed: true})
		}
		answers.Write(append(encoded, '\n'))
		answers.Flush()
	}
}

// clientVersion is the Kubernetes version of the client that this program is built with, which the released
// command tells charts too; the library by itself says 1.20.
func clientVersion() chartutil.KubeVersion {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "k8s.io/client-go" {
			minor := strings.Split(module.Version, ".")[1]
			return chartutil.KubeVersion{Version: "v1." + minor + ".0", Major: "1", Minor: minor}
		}
	}
	panic("built without a Kubernetes client")
}

func handle(line []byte) (result answer) {
	defer func() {
		if cause := recover(); cause != nil {
			result = answer{Error: fmt.Sprintf("panic: %v", cause), Failed: true}
		}
	}()
	var asked request
	err := json.Unmarshal(line, &asked)
	if err == nil {
		switch asked.Op {
		case "template":
			result, err = renderTemplates(asked)
		case "chart_template":
			result, err = commandLine(asked)
		default:
			err = fmt.Errorf("no operation %s", asked.Op)
		}
	}
	if err != nil {
		return answer{Error: err.Error(), Failed: true}
	}
	return result
}

// renderTemplates renders loose templates as those of one chart named "t", with the file names given.
func renderTemplates(asked request) (answer, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(asked.Values), &values); err != nil {
		return answer{}, err
	}
	loose := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "t", Version: "1.2.3", AppVersion: "4.5"}}
	for name, source := range asked.Templates {
		loose.Templates = append(loose.Templates, &chart.File{Name: name, Data: []byte(source)})
	}
	for name, data := range asked.Files {
		loose.Files = append(loose.Files, &chart.File{Name: name, Data: data})
	}
	options := chartutil.ReleaseOptions{Name: "r", Namespace: "n", Revision: 1, IsInstall: true}
	top, err := chartutil.ToRenderValues(loose, values, options, chartutil.DefaultCapabilities)
	if err != nil {
		return answer{}, err
	}
	rendered, err := engine.Render(loose, top)
	if err != nil {
		return answer{}, err
	}
	files := map[string]string{}
	for name, text := range rendered {
		files[strings.TrimPrefix(name, "t/")] = text
	}
	return answer{Files: files}, nil
}

// commandLine writes Files to a folder and renders the chart that Args name, "{dir}" standing for the folder.
func commandLine(asked request) (answer, error) {
	folder, err := os.MkdirTemp("", "helm-oracle-")
	if err != nil {
		return answer{}, err
	}
	defer os.RemoveAll(folder)
	for name, data := range asked.Files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return answer{}, err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return answer{}, err
		}
	}
	var arguments []string
	for _, argument := range asked.Args {
		arguments = append(arguments, strings.ReplaceAll(argument, "{dir}", folder))
	}
	output, err := templateCommand(arguments)
	if err != nil {
		return answer{}, fmt.Errorf("%s", strings.ReplaceAll(err.Error(), folder, "{dir}"))
	}
	return answer{Output: output}, nil
}
