// Command selector answers, one JSON line for each question, what Kubernetes' own label selectors say: whether
// the selector is valid, and whether it matches each set of labels.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

type question struct {
	Text   *string               `json:"text"`
	Fields *metav1.LabelSelector `json:"fields"`
	Labels []labels.Set          `json:"labels"`
}

type answer struct {
	Matches []bool `json:"matches"`
	Error   string `json:"error"`
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
		if err := out.Encode(judge(q)); err != nil {
			os.Exit(1)
		}
	}
}

func judge(q question) answer {
	selector, err := parse(q)
	if err != nil {
		return answer{Error: err.Error()}
	}
	a := answer{Matches: []bool{}}
	for _, set := range q.Labels {
		a.Matches = append(a.Matches, selector.Matches(set))
	}
	return a
}

func parse(q question) (labels.Selector, error) {
	if q.Text != nil {
		return labels.Parse(*q.Text)
	}
	return metav1.LabelSelectorAsSelector(q.Fields)
}
