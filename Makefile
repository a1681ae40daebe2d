# Holdfast. `make` alone prints what there is.
# Needs Go, gcc and git; the pinned tools are built once into .cache/tools.
# Variables: N (servers of the lab, or inputs of soak), LAB (auto, yes, no),
# PKGS (packages to test), SEED (where soak's search begins), V=1 (every test's name).

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO      ?= go
MODULE  := github.com/holdfast-ha/holdfast
CACHE   := $(CURDIR)/.cache
TOOLS   := $(CACHE)/tools
RESULTS := $(CACHE)/results
export PATH := $(TOOLS):$(PATH)
export GOLANGCI_LINT_CACHE := $(CACHE)/golangci-lint

# libvirt is loaded at run time, so that its headers are not needed to build.
TAGS    := libvirt_dlopen
VERSION := $(shell git describe --tags --match 'v*' 2>/dev/null || echo devel)
COMMIT  := $(shell git describe --always --dirty --exclude '*' 2>/dev/null)
LDFLAGS := -X $(MODULE)/pkg/version.Version=$(VERSION) -X $(MODULE)/pkg/version.Commit=$(COMMIT)
BUILD    = $(GO) build -trimpath -ldflags '$(LDFLAGS)'

PKGS ?= ./...
LAB  ?= auto
# Searches run in full without the race detector, which makes them ten times
# slower, and briefly (-short) with it.
SIMULATED := ^$(MODULE)/(agent/sim|test/scenarios)(/|$$)
# go test, its JSON kept in the results folder for the requirements check.
# Usage: $(call gotest,name,flags and packages)
gotest = mkdir -p $(RESULTS) && gotestsum --format $(if $(V),testname,pkgname) --format-hide-empty-pkg \
	--hide-summary=skipped --jsonfile $(RESULTS)/$(1).json -- -tags $(TAGS) -shuffle=on $(2)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Build

.PHONY: build
build: ## build the binaries into bin/
	CGO_ENABLED=1 $(BUILD) -tags $(TAGS) -o bin/holdfast-agent ./agent
	CGO_ENABLED=0 $(BUILD) -o bin/holdfast ./console
	@if [ -d console/tui ]; then set -x; CGO_ENABLED=0 $(BUILD) -o bin/holdfast-console ./console/tui; fi

# A version that dpkg understands: v1.2.3-4-gabc becomes 1.2.3+4.gabc, a build
# without a tag 0.0.0~devel.
DEB_VERSION = $(if $(filter devel,$(VERSION)),0.0.0~devel+$(subst -,.,$(COMMIT)),$(shell sed 's/^v//; s/-/+/; s/-/./g' <<<'$(VERSION)'))
STAGE := $(CACHE)/package
DIST  := dist

.PHONY: packages
packages: build tools ## write a Debian package to dist/
	@rm -rf $(STAGE) && mkdir -p $(STAGE)/man1 $(STAGE)/man8 $(STAGE)/bin $(DIST)
	cp bin/* $(STAGE)/bin/
	bin/holdfast man $(STAGE)/man1 && bin/holdfast-agent man $(STAGE)/man8 && gzip -9n $(STAGE)/man?/*
	@for shell in bash zsh fish; do for b in holdfast holdfast-agent; do bin/$$b completion $$shell >$(STAGE)/$$b.$$shell; done; done
	VERSION='$(DEB_VERSION)' ARCH=$$($(GO) env GOARCH) nfpm package -f configs/package/nfpm.yaml -p deb -t $(DIST)/

.PHONY: generate
generate: tools ## write the Go code of the API, and the schemas of etcd's values, from proto/
	find proto -name '*.pb.go' -delete
	buf generate
	rm -rf docs/schemas
	buf generate --template buf.schemas.yaml

.PHONY: fmt
fmt: tools ## format Go and proto files
	golangci-lint fmt
	buf format -w

.PHONY: clean
clean: ## remove what make built, the tools apart
	rm -rf bin dist $(RESULTS) $(CACHE)/generated $(STAGE)

# The tools are built again when their module, or the Go release, changes.
TOOLS_STAMP := $(TOOLS)/.built-$(shell cat tools/go.mod tools/api/go.mod | cksum | cut -d' ' -f1)-$(shell $(GO) env GOVERSION)

.PHONY: tools
tools: $(TOOLS_STAMP) ## build the pinned tools (linters, generators) into .cache/tools

$(TOOLS_STAMP):
	@echo "building the pinned tools, once: takes a few minutes"
	mkdir -p $(TOOLS) && rm -f $(TOOLS)/.built-*
	cd tools && GOFLAGS= GOBIN=$(TOOLS) $(GO) install tool
	cd tools/api && GOFLAGS= GOBIN=$(TOOLS) $(GO) install tool
	touch $@

## Check

.PHONY: test
test: ## everything: lint, tests with the race detector, lab, requirements
	@LAB=$(LAB) RESULTS=$(RESULTS) MAKE='$(MAKE)' test/run-all

.PHONY: lint
lint: lint-go lint-proto lint-breaking lint-generated lint-tidy ## check style, API rules, generated code and go.mod

.PHONY: lint-go
lint-go: tools
	golangci-lint run

.PHONY: lint-proto
lint-proto: tools
	buf lint
	buf format -d --exit-code

# Compares the API with the newest release or, before the first one, with what
# it was before its last change. A change that is meant to break an API that
# was never released says so in a line "API-Break: why" of its commit message.
.PHONY: lint-breaking
lint-breaking: tools
	@tools/buf-breaking

.PHONY: lint-generated
lint-generated: tools
	@rm -rf $(CACHE)/generated && mkdir -p $(CACHE)/generated/proto
	@buf generate -o $(CACHE)/generated
	@buf generate --template buf.schemas.yaml -o $(CACHE)/generated
	@diff -ru --exclude='*.proto' --exclude='*_test.go' --exclude='doc.go' $(CACHE)/generated/proto proto \
		&& diff -ru $(CACHE)/generated/docs/schemas docs/schemas \
		|| { echo "proto/ or docs/schemas: generated files are out of date: make generate" >&2; exit 1; }

.PHONY: lint-tidy
lint-tidy:
	@mkdir -p $(CACHE); $(GO) mod tidy -diff >$(CACHE)/tidy.diff \
		|| { head -n 40 $(CACHE)/tidy.diff; echo "go.mod or go.sum is out of date: go mod tidy" >&2; exit 1; }
	@for module in tools tools/api; do \
		(cd $$module && GOFLAGS=-mod=readonly $(GO) list -deps tool >/dev/null) \
		|| { echo "$$module/go.sum is out of date: cd $$module && go mod tidy" >&2; exit 1; }; done

.PHONY: unit
unit: tools ## unit, property and embedded-etcd tests with the race detector
	@packages=$$($(GO) list -tags $(TAGS) $(PKGS) | grep -Ev '$(SIMULATED)'); \
	$(call gotest,unit,-race -timeout=10m $$packages)

.PHONY: sim-test
sim-test: tools ## the simulator: scenarios and a share of the search, and a shorter run with the race detector
	@packages=$$($(GO) list -tags $(TAGS) $(PKGS) | grep -E '$(SIMULATED)'); failed=0; \
	$(call gotest,sim-race,-race -short -timeout=30m $$packages) || failed=1; \
	$(call gotest,sim,-timeout=30m $$packages) || failed=1; \
	exit $$failed

.PHONY: requirements
requirements: ## check docs/requirements.tsv against the results of the last tests
	@$(GO) run ./test/requirements -results $(RESULTS)

.PHONY: soak
soak: ## property tests and searches with N=100000 inputs each, then FUZZTIME=1m for each parser
	@packages=$$(grep -rl --include='*_test.go' '"pgregory.net/rapid"' . | xargs -r -n1 dirname | sort -u); \
	[ -n "$$packages" ] || { echo "soak: no property tests found" >&2; exit 1; }; \
	set -x; $(GO) test -tags $(TAGS) -shuffle=on -timeout=0 $$packages -rapid.checks=$(or $(N),100000)
	$(GO) test -tags $(TAGS) -timeout=0 -count=1 -v -run '^(TestSearchFindsNoViolation|TestEveryMutantIsFound)$$' ./agent/sim/search \
		-search.runs=$(or $(N),100000) -search.seed=$(or $(SEED),1)
	@grep -rho --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . >/dev/null || { echo "soak: no fuzz targets found" >&2; exit 1; }
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | while IFS=: read -r file target; do \
	  (set -x; $(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(or $(FUZZTIME),1m) "$$(dirname "$$file")") || exit 1; done

.PHONY: bench
bench: build ## measure: benchmarks here and, as root on Debian, figures of the lab
	@packages=$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r -n1 dirname | sort -u); \
	[ -n "$$packages" ] || { echo "bench: no benchmarks found" >&2; exit 1; }; \
	set -x; $(GO) test -tags $(TAGS) -run '^$$' -bench . -benchmem -timeout=0 $$packages
	@if [ "$$(id -u)" -eq 0 ] && [ -e /etc/debian_version ]; then $(MAKE) lab-bench; \
	else echo "bench: the lab's figures need root on Debian: make lab-bench"; fi

.PHONY: lab-bench
lab-bench: build lab-deps ## figures of the lab: N=20 power losses at T=5s and at T=3s, an idle pool, N=20 migrations by each way, also at 1 Gbit/s (root, 45 minutes)
	@.ci/deps bench || echo "lab-bench: no SSH server; libvirt over SSH will not be measured" >&2
	HOLDFAST_LAB_NAME=bench test/lab/lab bench failover --runs $(or $(N),20) --ttl 5s
	HOLDFAST_LAB_NAME=bench test/lab/lab bench failover --runs $(or $(N),20) --ttl 3s
	HOLDFAST_LAB_NAME=bench test/lab/lab bench failover --runs $(or $(N),20) --power
	HOLDFAST_LAB_NAME=bench test/lab/lab bench idle
	HOLDFAST_LAB_NAME=bench test/lab/lab bench migrate --runs $(or $(N),20)
	HOLDFAST_LAB_NAME=bench test/lab/lab bench migrate --runs $(or $(N),20) --link 1gbit

.PHONY: lab-tour
lab-tour: build lab-deps ## one busy guest moves N=50 times round the servers of a lab: no count lost (root, 6 minutes)
	HOLDFAST_LAB_NAME=tour test/lab/lab bench tour --runs $(or $(N),50)

## Try it

.PHONY: demo
demo: build ## a pool of simulated servers in this terminal: no root, no libvirt
	bin/holdfast-agent demo

.PHONY: screenshots
screenshots: build ## play the stories of docs/console.md with the real console: its frames, and the pictures in docs/images
	$(GO) run ./test/terminal/shot test/terminal/testdata/newcomer.story test/terminal/testdata/plain-terminal.story

.PHONY: lab
lab: build lab-deps ## start N=3 real libvirt servers on this machine (root)
	test/lab/lab up $(or $(N),3)

.PHONY: lab-down
lab-down: ## stop the lab and remove what it made (root)
	test/lab/lab down

.PHONY: lab-test
lab-test: build tools lab-deps ## end-to-end tests on real libvirt and QEMU (root, Debian)
	export HOLDFAST_LAB=1; $(call gotest,lab,-p 1 -parallel 2 -timeout=30m ./test/lab/... ./agent/virt)

.PHONY: lab-matrix
lab-matrix: build lab-deps ## live migration with every part killed at every phase: writes TABLE=docs/migration-matrix.md (root, 20 minutes)
	@grep -rqs '^func TestMatrix' test/lab || { echo "lab-matrix: this release has no migration matrix" >&2; exit 1; }
	HOLDFAST_LAB=1 $(GO) test -tags $(TAGS) -count=1 -v -timeout=0 -parallel=2 -run '^TestMatrix' ./test/lab/e2e \
		-matrix -matrix.table=$(abspath $(or $(TABLE),docs/migration-matrix.md))

.PHONY: lab-deps
lab-deps: ## install with apt what the lab needs (root, Debian)
	@.ci/deps lab
