package config

import (
	"strings"
	"testing"
)

const withoutMetrics = "pool: p\nserver: s\naddress: 10.0.0.1:7400\n"

func TestMetricsAreOffUnlessConfigured(t *testing.T) {
	c, err := Parse([]byte(withoutMetrics))
	if err != nil || c.Metrics != (Metrics{}) {
		t.Errorf("%+v, %v", c.Metrics, err)
	}
}

func TestMetricsLeaveTheMachineOnlyThroughTLS(t *testing.T) {
	for text, want := range map[string]string{
		"metrics: {address: '127.0.0.1:9640'}":             "",
		"metrics: {address: 'localhost:9640'}":             "",
		"metrics: {address: '10.0.0.1:9640', tls: true}":   "",
		"metrics: {address: '0.0.0.0:9640', tls: true}":    "",
		"metrics: {address: '10.0.0.1:9640'}":              "without TLS only this very machine may ask; write 127.0.0.1:9640, or set metrics.tls",
		"metrics: {address: ':9640'}":                      "without TLS only this very machine may ask",
		"metrics: {tls: true}":                             "metrics.address is empty",
		"metrics: {address: '127.0.0.1'}":                  "host:port",
		"metrics: {address: '127.0.0.1:7400'}":             "uses the port of listen",
		"metrics: {address: '127.0.0.1:2379'}":             "uses a port of etcd",
		"metrics: {address: '127.0.0.1:9640', path: '/m'}": "path",
	} {
		_, err := Parse([]byte(withoutMetrics + text + "\n"))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
