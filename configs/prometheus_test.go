package configs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// promtool checks rules as Prometheus reads them.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skipf("NOT CHECKED: promtool is not here (%v); it is in Debian's package prometheus, which .ci/deps build installs", err)
	}
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = "prometheus"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesTheAlertRules(t *testing.T) { promtool(t, "check", "rules", "rules.yml") }

func TestAlertsFireWhenTheyShouldAndAreSilentOtherwise(t *testing.T) {
	promtool(t, "test", "rules", "rules_test.yml")
}

// documented are the names in the manual, which a test of agent/metrics compares with what is exported.
func documented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(holdfast_\\w+)").FindAllStringSubmatch(string(text), -1) {
		names[row[1]] = true
	}
	if len(names) == 0 {
		t.Fatal("the manual has no table of metrics")
	}
	return names
}

func TestRulesAndDashboardAskForNothingThatIsNotExported(t *testing.T) {
	names := documented(t)
	for _, file := range []string{"rules.yml", "rules_test.yml", "grafana.json"} {
		text, err := os.ReadFile(filepath.Join("prometheus", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`holdfast_\w+`).FindAllString(string(text), -1) {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !names[name] && !names[base] {
				t.Errorf("%s asks for %s, which nothing exports", file, name)
			}
		}
	}
}

func TestTheDashboardIsOneThatPrometheusCanAnswer(t *testing.T) {
	text, err := os.ReadFile("prometheus/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil || board.Title == "" || len(board.Panels) == 0 {
		t.Fatalf("%v, %+v", err, board)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, p := range board.Panels {
		for n, target := range p.Targets {
			if target.Expr == "" {
				t.Errorf("panel %q asks for nothing", p.Title)
			}
			expr, err := json.Marshal(strings.ReplaceAll(target.Expr, "$job", "holdfast"))
			if err != nil {
				t.Fatal(err)
			}
			rules.WriteString("  - record: panel:" + string(rune('a'+p.ID)) + ":" + string(rune('a'+n)) + "\n    expr: " + string(expr) + "\n")
		}
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
