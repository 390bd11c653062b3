package main

import (
	"context"
	"encoding/json"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/chartutil"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// composition is what Flux composes a release's values from. Objects are found under "Kind/name".
type composition struct {
	References []meta.ValuesReference       `json:"references"`
	Objects    map[string]map[string][]byte `json:"objects"`
	Inline     map[string]any               `json:"inline"`
}

// composeValues composes values as Flux's helm-controller does; Text is a composition.
func composeValues(asked request) (answer, error) {
	var given composition
	if err := json.Unmarshal([]byte(asked.Text), &given); err != nil {
		return answer{}, err
	}
	composed, err := chartutil.ChartValuesFromReferences(context.Background(), logr.Discard(), objects{held: given.Objects}, "n", given.Inline, given.References...)
	if err != nil {
		return answer{}, err
	}
	return answer{Output: describe(map[string]any(composed))}, nil
}

// objects is a client of a cluster that holds these and nothing else.
type objects struct {
	client.Client
	held map[string]map[string][]byte
}

func (all objects) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	kind := "ConfigMap"
	if _, secret := into.(*corev1.Secret); secret {
		kind = "Secret"
	}
	data, found := all.held[kind+"/"+key.Name]
	if !found {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, key.Name)
	}
	switch object := into.(type) {
	case *corev1.Secret:
		object.Data = data
	case *corev1.ConfigMap:
		object.Data = map[string]string{}
		for name, bytes := range data {
			object.Data[name] = string(bytes)
		}
	}
	return nil
}
