package ui

import (
	"encoding/xml"
	"strings"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// domainXML is what the details of a VM tell of its definition in words.
type domainXML struct {
	Disks []struct {
		Device string `xml:"device,attr"`
		Source struct {
			File     string `xml:"file,attr"`
			Dev      string `xml:"dev,attr"`
			Name     string `xml:"name,attr"`
			Pool     string `xml:"pool,attr"`
			Volume   string `xml:"volume,attr"`
			Protocol string `xml:"protocol,attr"`
		} `xml:"source"`
		Target struct {
			Dev string `xml:"dev,attr"`
			Bus string `xml:"bus,attr"`
		} `xml:"target"`
	} `xml:"devices>disk"`
	Interfaces []struct {
		Source struct {
			Bridge  string `xml:"bridge,attr"`
			Network string `xml:"network,attr"`
			Dev     string `xml:"dev,attr"`
		} `xml:"source"`
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"mac"`
	} `xml:"devices>interface"`
}

// askDefinition asks for a VM with its definition, which the stream leaves out.
func (m *Model) askDefinition(id string) { m.ask("definition "+id, &pb.GetVMRequest{Vm: id}) }

// learnDefinition takes the answer.
func (m *Model) learnDefinition(a Answer) {
	r, ok := a.Message.(*pb.GetVMResponse)
	if !ok || a.Err != nil {
		return
	}
	if m.definitions == nil {
		m.definitions = map[string]string{}
	}
	m.definitions[r.GetVm().GetVm().GetId()] = r.GetVm().GetVm().GetXml()
}

// deviceLines are a VM's disks and networks, once its definition has been asked for.
func (m *Model) deviceLines(id string) lines {
	var l lines
	var d domainXML
	if text := m.definitions[id]; text == "" || xml.Unmarshal([]byte(text), &d) != nil {
		return l // shown as it is below
	}
	for _, disk := range d.Disks {
		s := disk.Source
		source := dashIf(s.File, dashIf(s.Dev, dashIf(s.Name, s.Volume)))
		if s.Protocol != "" || s.Pool != "" {
			source = dashIf(s.Protocol, s.Pool) + ":" + source
		}
		l.fact(dashIf(disk.Device, "disk"), joinParts(disk.Target.Dev+prefixed(" on ", disk.Target.Bus), dash(source)))
	}
	for _, n := range d.Interfaces {
		l.fact("network", joinParts(dash(dashIf(n.Source.Bridge, dashIf(n.Source.Network, n.Source.Dev))), n.MAC.Address))
	}
	return l
}

// definitionLines are a VM's definition as it is.
func (m *Model) definitionLines(id string) lines {
	text := m.definitions[id]
	if text == "" {
		return nil
	}
	l := lines{nil, []piece{{title, "DEFINITION"}}}
	for line := range strings.SplitSeq(indented(strings.TrimSpace(text)), "\n") {
		l.add(dim, line)
	}
	return l
}

// indented gives XML that was written in one line a line for each element.
func indented(text string) string {
	if strings.Contains(text, "\n") {
		return text
	}
	var b strings.Builder
	depth := 0
	for i, part := range strings.Split(text, "><") {
		closing := strings.HasPrefix(part, "/")
		if closing {
			depth = max(depth-1, 0)
		}
		if i > 0 {
			b.WriteString(">\n" + strings.Repeat("  ", depth) + "<")
		}
		b.WriteString(part)
		if !closing && !strings.HasSuffix(part, "/") && !strings.Contains(part, "</") && !strings.HasPrefix(part, "?") {
			depth++
		}
	}
	return b.String()
}
