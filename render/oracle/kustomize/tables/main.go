// Command tables prints, as Rust, the data kustomize's behaviour rests on: default field specs, name references,
// the order of kinds, which types are cluster-scoped, and how each field of a built-in type merges.
//
//	cd render/oracle/kustomize && go run ./tables > ../../src/kustomize/tables/generated.rs
package main

import (
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"sort"
	"strings"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/kustomize/api/internal/plugins/builtinconfig"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/kustomize/kyaml/openapi/kubernetesapi"
	"sigs.k8s.io/kustomize/kyaml/openapi/kustomizationapi"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

func main() {
	header()
	fieldSpecs()
	definitions, metas := builtin()
	kindOrder(metas)
	clusterScoped(metas)
	mergeTypes(definitions)
}

func header() {
	fmt.Println("//! Default field specs, name references, kind order, cluster-scoped types and merge rules of kustomize.")
	fmt.Println("//!")
	fmt.Println("//! Generated, do not edit: `cd render/oracle/kustomize && go run ./tables > ../../src/kustomize/tables/generated.rs`")
	fmt.Println("//! and `rustfmt` on the result. Read from these modules (Apache-2.0, Copyright The Kubernetes Authors):")
	info, ok := debug.ReadBuildInfo()
	if !ok {
		log.Fatal("no build information")
	}
	for _, m := range info.Deps {
		if strings.HasPrefix(m.Path, "sigs.k8s.io/kustomize/") {
			fmt.Printf("//! %s %s\n", m.Path, m.Version)
		}
	}
	fmt.Printf("//! with the built-in OpenAPI of Kubernetes %s.\n\n", kubernetesapi.DefaultOpenAPI)
	fmt.Println("use super::{NameReference, Spec, Type};")
	fmt.Println()
}

func fieldSpecs() {
	defaults := builtinconfig.MakeDefaultConfig()
	merged, err := builtinconfig.MakeEmptyConfig().Merge(defaults)
	if err != nil {
		log.Fatal(err)
	}
	for _, list := range []struct {
		name  string
		specs types.FsSlice
	}{
		{"NAME_PREFIX", merged.NamePrefix}, {"NAME_SUFFIX", merged.NameSuffix}, {"NAMESPACE", merged.NameSpace},
		{"COMMON_LABELS", merged.CommonLabels}, {"LABELS", merged.Labels}, {"TEMPLATE_LABELS", merged.TemplateLabels},
		{"COMMON_ANNOTATIONS", merged.CommonAnnotations}, {"VAR_REFERENCE", merged.VarReference},
		{"IMAGES", merged.Images}, {"REPLICAS", merged.Replicas},
	} {
		fmt.Printf("pub(crate) static %s: &[Spec] = &[\n", list.name)
		for _, s := range list.specs {
			printSpec(s)
		}
		fmt.Println("];")
	}
	fmt.Println("pub(crate) static NAME_REFERENCE: &[NameReference] = &[")
	for _, r := range merged.NameReference {
		fmt.Printf("NameReference { group: %q, version: %q, kind: %q, referrers: &[\n", r.Group, r.Version, r.Kind)
		for _, s := range r.Referrers {
			printSpec(s)
		}
		fmt.Println("]},")
	}
	fmt.Println("];")
}

func printSpec(s types.FieldSpec) {
	fmt.Printf("Spec { group: %q, version: %q, kind: %q, path: %q, create: %t },\n",
		s.Group, s.Version, s.Kind, s.Path, s.CreateIfNotPresent)
}

// builtin reads the swagger documents kustomize embeds: their definitions, and every type they speak of.
func builtin() (spec.Definitions, []yaml.TypeMeta) {
	asset := "kubernetesapi/" + strings.ReplaceAll(kubernetesapi.DefaultOpenAPI, ".", "_") + "/swagger.pb"
	doc := &openapi_v2.Document{}
	if err := proto.Unmarshal(kubernetesapi.OpenAPIMustAsset[kubernetesapi.DefaultOpenAPI](asset), doc); err != nil {
		log.Fatal(err)
	}
	var swagger, own spec.Swagger
	if _, err := swagger.FromGnostic(doc); err != nil {
		log.Fatal(err)
	}
	if err := own.UnmarshalJSON(kustomizationapi.MustAsset("kustomizationapi/swagger.json")); err != nil {
		log.Fatal(err)
	}
	definitions := spec.Definitions{}
	for name, d := range swagger.Definitions {
		definitions[name] = d
	}
	for name, d := range own.Definitions {
		definitions[name] = d
	}
	seen := map[yaml.TypeMeta]bool{}
	for _, d := range definitions {
		for _, m := range typeMetas(d) {
			seen[m] = true
		}
	}
	for _, p := range swagger.Paths.Paths {
		if p.Get == nil {
			continue
		}
		if m, ok := typeMeta(p.Get.Extensions["x-kubernetes-group-version-kind"]); ok {
			seen[m] = true
		}
	}
	// Types kustomize knows by heart although the embedded document may have dropped them.
	for _, extra := range []yaml.TypeMeta{
		{APIVersion: "policy/v1beta1", Kind: "PodSecurityPolicy"},
		{APIVersion: "v1", Kind: "NodeProxyOptions"},
	} {
		seen[extra] = true
	}
	var metas []yaml.TypeMeta
	for m := range seen {
		metas = append(metas, m)
	}
	sort.Slice(metas, func(i, j int) bool {
		return metas[i].APIVersion+" "+metas[i].Kind < metas[j].APIVersion+" "+metas[j].Kind
	})
	return definitions, metas
}

func typeMetas(d spec.Schema) (result []yaml.TypeMeta) {
	list, _ := d.Extensions["x-kubernetes-group-version-kind"].([]any)
	for _, v := range list {
		if m, ok := typeMeta(v); ok {
			result = append(result, m)
		}
	}
	return result
}

func typeMeta(v any) (yaml.TypeMeta, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return yaml.TypeMeta{}, false
	}
	apiVersion := m["version"].(string)
	if g, _ := m["group"].(string); g != "" {
		apiVersion = g + "/" + apiVersion
	}
	return yaml.TypeMeta{APIVersion: apiVersion, Kind: m["kind"].(string)}, true
}

// kindOrder finds the kinds that come before and after all others by asking kustomize to compare them.
func kindOrder(metas []yaml.TypeMeta) {
	kinds := map[string]bool{}
	for _, m := range metas {
		kinds[m.Kind] = true
	}
	other := resid.Gvk{Group: "m", Kind: "other"}
	var first, last []string
	for k := range kinds {
		if (resid.Gvk{Group: "z", Kind: k}).IsLessThan(other) {
			first = append(first, k)
		}
		if other.IsLessThan(resid.Gvk{Group: "a", Kind: k}) {
			last = append(last, k)
		}
	}
	for _, list := range []struct {
		name  string
		kinds []string
	}{{"ORDER_FIRST", first}, {"ORDER_LAST", last}} {
		sort.Slice(list.kinds, func(i, j int) bool {
			return resid.Gvk{Kind: list.kinds[i]}.IsLessThan(resid.Gvk{Kind: list.kinds[j]})
		})
		fmt.Printf("pub(crate) static %s: &[&str] = &%s;\n", list.name, quoted(list.kinds))
	}
}

func clusterScoped(metas []yaml.TypeMeta) {
	// Load the document so that the answer covers types outside kustomize's precomputed list.
	openapi.SchemaForResourceType(yaml.TypeMeta{APIVersion: "v1", Kind: "Pod"})
	fmt.Println("pub(crate) static CLUSTER_SCOPED: &[(&str, &str)] = &[")
	for _, m := range metas {
		if openapi.IsCertainlyClusterScoped(m) {
			fmt.Printf("(%q, %q),\n", m.APIVersion, m.Kind)
		}
	}
	fmt.Println("];")
}

// node is one row of the table of types; equal rows are printed once.
type table struct {
	definitions spec.Definitions
	byName      map[string]int
	byText      map[string]int
	rows        []string
}

const none = 65535

func mergeTypes(definitions spec.Definitions) {
	t := &table{definitions: definitions, byName: map[string]int{}, byText: map[string]int{}}
	type resource struct {
		meta yaml.TypeMeta
		row  int
	}
	var names []string
	for name := range definitions {
		names = append(names, name)
	}
	sort.Strings(names)
	var resources []resource
	for _, name := range names {
		for _, m := range typeMetas(definitions[name]) {
			resources = append(resources, resource{m, t.definition(name)})
		}
	}
	sort.Slice(resources, func(i, j int) bool {
		a, b := resources[i].meta, resources[j].meta
		return a.APIVersion < b.APIVersion || a.APIVersion == b.APIVersion && a.Kind < b.Kind
	})
	fmt.Println("pub(crate) static RESOURCES: &[(&str, &str, u16)] = &[")
	for _, r := range resources {
		fmt.Printf("(%q, %q, %d),\n", r.meta.APIVersion, r.meta.Kind, r.row)
	}
	fmt.Println("];")
	fmt.Println("pub(crate) static TYPES: &[Type] = &[")
	for _, row := range t.rows {
		fmt.Println(row)
	}
	fmt.Println("];")
	if len(t.rows) >= none {
		log.Fatal("too many types")
	}
	fmt.Fprintf(os.Stderr, "%d types, %d resources\n", len(t.rows), len(resources))
}

func (t *table) definition(name string) int {
	if row, ok := t.byName[name]; ok {
		return row
	}
	row := len(t.rows)
	t.byName[name] = row
	t.rows = append(t.rows, "")
	t.rows[row] = t.text(t.definitions[name])
	return row
}

// schema returns the row of a field's schema, or none when neither merging nor anything below depends on it.
func (t *table) schema(s spec.Schema) int {
	if ref := s.Ref.String(); ref != "" {
		name := strings.TrimPrefix(ref, "#/definitions/")
		if d := t.definitions[name]; d.Ref.String() == "" && t.plain(d) {
			return none
		}
		return t.definition(name)
	}
	if t.plain(s) {
		return none
	}
	text := t.text(s)
	if row, ok := t.byText[text]; ok {
		return row
	}
	row := len(t.rows)
	t.byText[text] = row
	t.rows = append(t.rows, text)
	return row
}

// plain tells whether a value of the schema is a scalar, or a list of scalars that a patch replaces whole.
func (t *table) plain(s spec.Schema) bool {
	if len(s.Type) != 1 {
		return false
	}
	switch s.Type[0] {
	case "string", "integer", "boolean", "number":
		return true
	case "array":
		_, strategy := s.Extensions["x-kubernetes-patch-strategy"]
		return !strategy && s.Items != nil && s.Items.Schema != nil && s.Items.Schema.Ref.String() == "" && t.plain(*s.Items.Schema)
	}
	return false
}

func (t *table) text(s spec.Schema) string {
	var fields []string
	for name := range s.Properties {
		fields = append(fields, name)
	}
	sort.Strings(fields)
	var b strings.Builder
	b.WriteString("Type { fields: &[")
	for _, name := range fields {
		if row := t.schema(s.Properties[name]); row != none {
			fmt.Fprintf(&b, "(%q, %d), ", name, row)
		}
	}
	rest, items := none, none
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		rest = t.schema(*s.AdditionalProperties.Schema)
	}
	if len(s.Type) == 1 && s.Type[0] == "array" && s.Items != nil && s.Items.Schema != nil {
		items = t.schema(*s.Items.Schema)
	}
	strategy, keys := (&openapi.ResourceSchema{Schema: &s}).PatchStrategyAndKeyList()
	merge := false
	for _, part := range strings.Split(strategy, ",") {
		merge = merge || part == "merge"
	}
	fmt.Fprintf(&b, "], rest: %d, items: %d, merge: %t, keys: &%s },", rest, items, merge, quoted(keys))
	return b.String()
}

func quoted(list []string) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}
