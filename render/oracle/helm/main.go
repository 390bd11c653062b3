// Command helm-oracle answers what Helm itself does with an input. The tests of the native engine start it
// once and compare: it reads one JSON request a line and writes one JSON answer a line.
//
// It links Helm's own packages, so that its answers are Helm's; it is no part of what Flotilla ships.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"time"
	"unicode/utf8"
)

// request is one question. Which fields count depends on Op.
type request struct {
	Op string `json:"op"`
	// Text is YAML, or JSON, or what --set takes.
	Text string `json:"text"`
	// Kind chooses among the parsers of --set, --set-string, --set-json and --set-literal.
	Kind string `json:"kind"`
	// Templates holds the sources by file name.
	Templates map[string]string `json:"templates"`
	// Values is YAML; Sets are applied over it as --set does.
	Values string   `json:"values"`
	Sets   []string `json:"sets"`
	// Files are a chart's files by path below it, base64 as Go's encoder has it.
	Files map[string][]byte `json:"files"`
	// Args are the arguments of the command line, "{dir}" standing for the folder of Files.
	Args []string `json:"args"`
	// Repeat asks for the time of so many runs.
	Repeat int `json:"repeat"`
}

// answer holds the output, or the error and nothing else.
type answer struct {
	Output string            `json:"output"`
	Files  map[string]string `json:"files,omitempty"`
	// Bytes and FileBytes hold what is no UTF-8, which JSON cannot.
	Bytes     []byte            `json:"bytes,omitempty"`
	FileBytes map[string][]byte `json:"fileBytes,omitempty"`
	Error     string            `json:"error,omitempty"`
	Failed bool              `json:"failed"`
	// Nanos is the time of one run, the least of those asked for.
	Nanos int64 `json:"nanos,omitempty"`
}

var operations = map[string]func(request) (answer, error){
	"yaml_marshal":   marshalYAML,
	"yaml_unmarshal": unmarshalYAML,
	"yaml_strict":    strictYAML,
	"strvals":        parseSet,
	"template":       renderTemplates,
	"chart_template": commandLine,
	"chart_render":   renderChart,
	"index":          readIndex,
	"index_resolve":  resolveVersion,
	"index_url":      resolveURL,
	"certificate":    describeCertificate,
	"private_key":    describeKey,
	"functions":      listFunctions,
	"flux_values":    composeValues,
}

func main() {
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
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

func handle(line []byte) (result answer) {
	defer func() {
		if cause := recover(); cause != nil {
			result = answer{Error: fmt.Sprintf("panic: %v", cause), Failed: true}
		}
	}()
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: "request: " + err.Error(), Failed: true}
	}
	operation, known := operations[asked.Op]
	if !known {
		return answer{Error: "no operation " + asked.Op, Failed: true}
	}
	result, err := operation(asked)
	for again := 0; again < asked.Repeat && err == nil; again++ {
		start := time.Now()
		if _, err = operation(asked); err == nil {
			took := time.Since(start).Nanoseconds()
			if result.Nanos == 0 || took < result.Nanos {
				result.Nanos = took
			}
		}
	}
	if err != nil {
		return answer{Error: err.Error(), Failed: true}
	}
	if !utf8.ValidString(result.Output) {
		result.Bytes = []byte(result.Output)
	}
	for name, text := range result.Files {
		if !utf8.ValidString(text) {
			if result.FileBytes == nil {
				result.FileBytes = map[string][]byte{}
			}
			result.FileBytes[name] = []byte(text)
		}
	}
	return result
}
