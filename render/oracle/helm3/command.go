package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/getter"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// options are the flags of `helm template` that the tests use. Helm 3's command is no package, so that what it
// does with its library stands here again.
type options struct {
	values                values.Options
	namespace             string
	kubeVersion           string
	apiVersions, showOnly []string
	includeCRDs, noHooks  bool
	skipTests, isUpgrade  bool
	skipSchema            bool
}

func readFlags(arguments []string) (*options, []string, error) {
	var read options
	flags := pflag.NewFlagSet("template", pflag.ContinueOnError)
	flags.StringVarP(&read.namespace, "namespace", "n", "default", "")
	flags.StringSliceVarP(&read.values.ValueFiles, "values", "f", nil, "")
	flags.StringArrayVar(&read.values.Values, "set", nil, "")
	flags.StringArrayVar(&read.values.StringValues, "set-string", nil, "")
	flags.StringArrayVar(&read.values.FileValues, "set-file", nil, "")
	flags.StringArrayVar(&read.values.JSONValues, "set-json", nil, "")
	flags.StringArrayVar(&read.values.LiteralValues, "set-literal", nil, "")
	flags.StringVar(&read.kubeVersion, "kube-version", "", "")
	flags.StringSliceVarP(&read.apiVersions, "api-versions", "a", nil, "")
	flags.StringArrayVarP(&read.showOnly, "show-only", "s", nil, "")
	flags.BoolVar(&read.includeCRDs, "include-crds", false, "")
	flags.Bool("skip-crds", false, "")
	flags.BoolVar(&read.noHooks, "no-hooks", false, "")
	flags.BoolVar(&read.skipTests, "skip-tests", false, "")
	flags.BoolVar(&read.isUpgrade, "is-upgrade", false, "")
	flags.BoolVar(&read.skipSchema, "skip-schema-validation", false, "")
	err := flags.Parse(arguments)
	return &read, flags.Args(), err
}

// templateCommand does what `helm template` does: arguments are "template", a name, a folder and flags.
func templateCommand(arguments []string) (string, error) {
	given, rest, err := readFlags(arguments)
	if err != nil {
		return "", err
	}
	install := action.NewInstall(new(action.Configuration))
	install.DryRun = true
	install.DryRunOption = "true"
	install.ClientOnly = true
	install.Replace = true
	install.ReleaseName = rest[1]
	install.Namespace = given.namespace
	install.APIVersions = chartutil.VersionSet(given.apiVersions)
	install.IncludeCRDs = given.includeCRDs
	install.DisableHooks = given.noHooks
	install.IsUpgrade = given.isUpgrade
	install.SkipSchemaValidation = given.skipSchema
	if given.kubeVersion != "" {
		if install.KubeVersion, err = chartutil.ParseKubeVersion(given.kubeVersion); err != nil {
			return "", fmt.Errorf("invalid kube version '%s': %w", given.kubeVersion, err)
		}
	}
	merged, err := given.values.MergeValues(getter.All(cli.New()))
	if err != nil {
		return "", err
	}
	loaded, err := loader.Load(rest[2])
	if err != nil {
		return "", err
	}
	if kind := loaded.Metadata.Type; kind != "" && kind != "application" {
		return "", fmt.Errorf("%s charts are not installable", kind)
	}
	if err := action.CheckDependencies(loaded, loaded.Metadata.Dependencies); err != nil {
		return "", err
	}
	released, err := install.Run(loaded, merged)
	if err != nil {
		return "", err
	}
	return given.print(released)
}

func (given *options) print(released *release.Release) (string, error) {
	var text strings.Builder
	fmt.Fprintln(&text, strings.TrimSpace(released.Manifest))
	if !given.noHooks {
		for _, hook := range released.Hooks {
			if given.skipTests && slices.Contains(hook.Events, release.HookTest) {
				continue
			}
			fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", hook.Path, hook.Manifest)
		}
	}
	if len(given.showOnly) == 0 {
		return text.String(), nil
	}
	return shown(text.String(), given.showOnly)
}

var source = regexp.MustCompile("# Source: [^/]+/(.+)")

func shown(text string, patterns []string) (string, error) {
	split := releaseutil.SplitManifests(text)
	keys := make([]string, 0, len(split))
	for key := range split {
		keys = append(keys, key)
	}
	sort.Sort(releaseutil.BySplitManifestsOrder(keys))
	var out strings.Builder
	for _, pattern := range patterns {
		missing := true
		for _, key := range keys {
			found := source.FindStringSubmatch(split[key])
			if len(found) == 0 {
				continue
			}
			if matches, _ := filepath.Match(pattern, found[1]); matches {
				fmt.Fprintf(&out, "---\n%s\n", split[key])
				missing = false
			}
		}
		if missing {
			return "", fmt.Errorf("could not find template %s in chart", pattern)
		}
	}
	return out.String(), nil
}
