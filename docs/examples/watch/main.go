package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

type claim struct {
	VM, Server, Epoch, Phase string
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: watch ENDPOINT POOL")
	}
	ctx, prefix := context.Background(), "/holdfast/v1/"+os.Args[2]+"/claims/"
	etcd, err := clientv3.New(clientv3.Config{Endpoints: os.Args[1:2]})
	if err != nil {
		log.Fatal(err)
	}
	listed, err := etcd.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		log.Fatal(err)
	}
	servers := map[string]string{}
	for _, kv := range listed.Kvs {
		show(servers, kv.Value)
	}
	for r := range etcd.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(listed.Header.Revision+1)) {
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypePut {
				show(servers, e.Kv.Value)
			}
		}
		if err := r.Err(); err != nil {
			log.Fatal(err) // compacted: list again
		}
	}
}

// show prints a claim if the VM is new or its server changed.
func show(servers map[string]string, value []byte) {
	var c claim
	if err := json.Unmarshal(value, &c); err != nil {
		log.Printf("a claim that cannot be read: %v", err)
		return
	}
	old, known := servers[c.VM]
	servers[c.VM] = c.Server
	switch {
	case !known:
		fmt.Printf("%s on %q, %s\n", c.VM, c.Server, c.Phase)
	case old != c.Server && c.Phase == "CLAIM_PHASE_HANDED_OVER":
		fmt.Printf("%s moves live from %s to %s, epoch %s\n", c.VM, old, c.Server, c.Epoch)
	case old != c.Server:
		fmt.Printf("%s goes from %q to %q, epoch %s\n", c.VM, old, c.Server, c.Epoch)
	}
}
