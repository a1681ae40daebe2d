#!/usr/bin/env python3
"""Prints who runs which VM, and every move and failover, from a pool's claims in etcd.

usage: watch.py URL POOL        for the demo: watch.py http://127.0.0.1:7390 pool
"""
import base64, json, sys, urllib.request

url, prefix = sys.argv[1], f"/holdfast/v1/{sys.argv[2]}/claims/"


def call(path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return urllib.request.urlopen(request)


def text(s):
    return base64.b64decode(s).decode()


def show(kv, servers={}):
    claim = json.loads(text(kv["value"]))
    vm, phase = claim["vm"], claim["phase"].removeprefix("CLAIM_PHASE_")
    old, new = servers.get(vm), claim.get("server", "no server")
    servers[vm] = new
    if old and old != new:
        how = "moves live" if phase == "HANDED_OVER" else "goes"
        print(f"{vm} {how} from {old} to {new}, epoch {claim.get('epoch', 0)}", flush=True)
    elif old is None:
        print(f"{vm} on {new}, {phase.lower()}", flush=True)


everything = {"key": base64.b64encode(prefix.encode()).decode(), "range_end": base64.b64encode((prefix[:-1] + "0").encode()).decode()}
listed = json.load(call("/v3/kv/range", everything))
for kv in listed.get("kvs", []):
    show(kv)
everything["start_revision"] = int(listed["header"]["revision"]) + 1
for line in call("/v3/watch", {"create_request": everything}):
    for event in json.loads(line)["result"].get("events", []):
        if event.get("type") != "DELETE":
            show(event["kv"])
