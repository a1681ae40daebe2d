package cli

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	pb "github.com/holdfast-ha/holdfast/proto/holdfast/v1"
)

// fenceDevices reads a YAML list of power switches, in the words of the API. Unknown words are refused.
func fenceDevices(data []byte) ([]*pb.FenceDevice, error) {
	var list []map[string]any
	if err := yaml.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("not a list of power switches: %w", err)
	}
	var out []*pb.FenceDevice
	for i, entry := range list {
		raw, err := json.Marshal(entry)
		if err != nil {
			return nil, fmt.Errorf("power switch %d: %w", i+1, err)
		}
		d := &pb.FenceDevice{}
		if err := protojson.Unmarshal(raw, d); err != nil {
			return nil, fmt.Errorf("power switch %d: %w", i+1, err)
		}
		if d.GetAgent() == "" {
			return nil, fmt.Errorf("power switch %d has no agent, such as fence_ipmilan", i+1)
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no power switch in it; to remove them all write none instead of a file")
	}
	return out, nil
}
