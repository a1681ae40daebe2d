package definition

// Chain is one disk as a running domain uses it.
type Chain struct {
	Disk
	// Job is the block job that runs on it ("copy", "active-commit", ...), empty without one.
	Job string
	// JobDestination is where a copy goes.
	JobDestination string
	// JobReady: the copy is complete and follows; a pivot would move the VM to the destination.
	JobReady bool
}

// Chains returns the disks of a running domain with their full backing chains, from its live XML, in its order.
func Chains(live string) ([]Chain, error) {
	root, err := parseDomain(live)
	if err != nil {
		return nil, err
	}
	var all []Chain
	for _, n := range root.all("devices/disk") {
		c := Chain{Disk: readDisk(n)}
		if m := n.at("mirror"); m != nil {
			c.Job = m.get("job")
			if c.Job == "" {
				c.Job = "copy"
			}
			_, c.JobDestination = source(m.get("type"), m.at("source"))
			if c.JobDestination == "" {
				c.JobDestination = m.get("file")
			}
			c.JobReady = m.get("ready") != ""
		}
		all = append(all, c)
	}
	return all, nil
}
