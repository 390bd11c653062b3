package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	helm "helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/engine"
	release "helm.sh/helm/v4/pkg/release/v1"
)

// renderTemplates renders loose templates as those of one chart named "t", with the file names given.
func renderTemplates(asked request) (answer, error) {
	values, err := readValues(asked.Values)
	if err != nil {
		return answer{}, err
	}
	for _, set := range asked.Sets {
		if err := applySet("set", set, values); err != nil {
			return answer{}, err
		}
	}
	loose := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "t", Version: "1.2.3", AppVersion: "4.5"}}
	for name, source := range asked.Templates {
		loose.Templates = append(loose.Templates, &common.File{Name: name, Data: []byte(source)})
	}
	for name, data := range asked.Files {
		loose.Files = append(loose.Files, &common.File{Name: name, Data: data})
	}
	options := common.ReleaseOptions{Name: "r", Namespace: "n", Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(loose, values, options, common.DefaultCapabilities)
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

// commandLine writes Files to a folder and runs Helm's command line with Args, as a process would.
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
	// The command's settings outlive a run: a namespace once given would be the next run's default.
	arguments := []string{"--namespace", "default"}
	for _, argument := range asked.Args {
		arguments = append(arguments, strings.ReplaceAll(argument, "{dir}", folder))
	}
	var output bytes.Buffer
	command, err := helm.NewRootCmd(&output, arguments, func(bool) {})
	if err != nil {
		return answer{}, err
	}
	command.SetArgs(arguments)
	command.SetOut(&output)
	command.SetErr(&bytes.Buffer{})
	command.SilenceUsage = true
	err = command.Execute()
	if err != nil {
		return answer{}, hideFolder{err, folder}
	}
	return answer{Output: output.String()}, nil
}

// hideFolder says an error with the temporary folder named as the request named it.
type hideFolder struct {
	error
	folder string
}

func (hidden hideFolder) Error() string {
	return strings.ReplaceAll(hidden.error.Error(), hidden.folder, "{dir}")
}

// renderChart loads a chart from Files in memory and renders it as a client-side install: what is timed as
// one library call. Values and Sets are what the user gives.
func renderChart(asked request) (answer, error) {
	values, err := readValues(asked.Values)
	if err != nil {
		return answer{}, err
	}
	for _, set := range asked.Sets {
		if err := applySet("set", set, values); err != nil {
			return answer{}, err
		}
	}
	names := make([]string, 0, len(asked.Files))
	for name := range asked.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	files := make([]*archive.BufferedFile, 0, len(names))
	for _, name := range names {
		files = append(files, &archive.BufferedFile{Name: name, Data: asked.Files[name]})
	}
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		return answer{}, err
	}
	install := action.NewInstall(action.NewConfiguration())
	install.DryRunStrategy = action.DryRunClient
	install.Replace = true
	install.ReleaseName = "release-name"
	install.Namespace = "default"
	released, err := install.Run(loaded, values)
	if err != nil {
		return answer{}, err
	}
	var output strings.Builder
	rendered := released.(*release.Release)
	output.WriteString(rendered.Manifest)
	for _, hook := range rendered.Hooks {
		output.WriteString("---\n# Source: " + hook.Path + "\n" + hook.Manifest + "\n")
	}
	return answer{Output: output.String()}, nil
}
