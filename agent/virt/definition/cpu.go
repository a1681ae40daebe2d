package definition

import (
	"fmt"
	"regexp"
	"strings"
)

// Machine names a machine type with what it depends on. Its text form is the name of a pool.NeedMachine:
// "pc-q35-7.2 (x86_64, kvm)"; empty parts are written as "default".
type Machine struct{ Name, Arch, Type string }

// String returns the text form.
func (m Machine) String() string {
	return fmt.Sprintf("%s (%s, %s)", orDefault(m.Name), orDefault(m.Arch), orDefault(m.Type))
}

func orDefault(s string) string {
	if s == "" {
		return "default"
	}
	return s
}

var machineRE = regexp.MustCompile(`^([^ ()]+) \(([^ (),]+), ([^ (),]+)\)$`)

// ParseMachine reads the text form. A name of another form is taken as a bare machine type.
func ParseMachine(s string) Machine {
	m := machineRE.FindStringSubmatch(s)
	if m == nil {
		return Machine{Name: s}
	}
	for i := range m {
		if m[i] == "default" {
			m[i] = ""
		}
	}
	return Machine{Name: m[1], Arch: m[2], Type: m[3]}
}

// signs of the policies of CPU features in the name of a pool.NeedCPU, such as "Skylake-Client,+avx2,-hle".
var signs = map[string]string{"require": "+", "": "+", "force": "!", "disable": "-", "optional": "?", "forbid": "~"}

// cpuNeed names what a <cpu> asks of a server, "" if every server can give it: host-model, host-passthrough and
// maximum take what there is.
func cpuNeed(cpu *node) string {
	model := cpu.word("model")
	if cpu == nil || model == "" || (cpu.get("mode") != "" && cpu.get("mode") != "custom") {
		return ""
	}
	parts := []string{model}
	for _, f := range cpu.all("feature") {
		if sign, ok := signs[f.get("policy")]; ok && f.get("name") != "" {
			parts = append(parts, sign+f.get("name"))
		}
	}
	return strings.Join(parts, ",")
}

// CPUXML is the reverse of a CPU need's name: a <cpu> that libvirt can compare with a server's.
func CPUXML(need string) string {
	parts := strings.Split(need, ",")
	cpu := &node{name: "cpu", attrs: []attr{{"mode", "custom"}, {"match", "exact"}}}
	cpu.add(&node{name: "model", attrs: []attr{{"fallback", "forbid"}}, text: parts[0]})
	for _, p := range parts[1:] {
		for policy, sign := range signs {
			if name, ok := strings.CutPrefix(p, sign); ok && policy != "" {
				cpu.add(&node{name: "feature", attrs: []attr{{"policy", policy}, {"name", name}}})
			}
		}
	}
	return cpu.String()
}
