package main

import (
	"encoding/json"
	"os"
	"path/filepath"

	repo "helm.sh/helm/v4/pkg/repo/v1"
)

// readIndex loads the index of Text as Helm does and answers with the versions of each chart, in order.
func readIndex(asked request) (answer, error) {
	index, err := loadIndex(asked.Text)
	if err != nil {
		return answer{}, err
	}
	type version struct {
		Version string   `json:"version"`
		URLs    []string `json:"urls"`
		Digest  string   `json:"digest"`
	}
	found := map[string][]version{}
	for name, versions := range index.Entries {
		found[name] = []version{}
		for _, entry := range versions {
			found[name] = append(found[name], version{entry.Version, append([]string{}, entry.URLs...), entry.Digest})
		}
	}
	encoded, err := json.Marshal(found)
	return answer{Output: string(encoded)}, err
}

// resolveVersion answers with the version that Args, a chart's name and a range, mean in the index of Text.
func resolveVersion(asked request) (answer, error) {
	index, err := loadIndex(asked.Text)
	if err != nil {
		return answer{}, err
	}
	found, err := index.Get(asked.Args[0], asked.Args[1])
	if err != nil {
		return answer{}, err
	}
	return answer{Output: found.Version}, nil
}

// resolveURL answers with the address of Args: a repository's and a chart's.
func resolveURL(asked request) (answer, error) {
	address, err := repo.ResolveReferenceURL(asked.Args[0], asked.Args[1])
	return answer{Output: address}, err
}

func loadIndex(text string) (*repo.IndexFile, error) {
	folder, err := os.MkdirTemp("", "helm-oracle-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "index.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return repo.LoadIndexFile(path)
}
