# The commands of Crewbeat. The work is done by scripts/; each says what it
# needs and does no more than has changed.
.DEFAULT_GOAL := help
.PHONY: help run build test fuzz mutants e2e screens lint image cluster clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

run: ## build everything and run it in one process: make run ARGS='--addr 127.0.0.1:9000 --data ./data'
	@scripts/run.sh $(ARGS)

build: ## build the page and bin/crewbeat
	@scripts/build.sh

test: ## run every test that needs no cluster; one step: make test STEPS=web
	@scripts/test.sh $(STEPS)

fuzz: ## every fuzz test for half a minute; longer: make fuzz FUZZ=600
	@scripts/fuzz.sh $(FUZZ)

mutants: ## make bugs of one line in pkg/tiered that its tests must find
	@cd pkg/tiered && GOWORK=off go test -count=1 -tags mutation -run Mutation -timeout 60m .

e2e: ## install the chart on a kind cluster and use it
	@scripts/e2e.sh

screens: ## take the pictures in docs/screens anew
	@scripts/screens.sh

lint: ## formatting and lint
	@scripts/lint.sh

image: ## build the image crewbeat:dev, without a registry
	@scripts/image.sh

cluster: ## make a kind cluster for tilt up
	@cd tools && GOWORK=off go tool kind create cluster --config ../k8s/kind/cluster.yaml

clean: ## remove what was built
	rm -rf bin test-results services/crewbeat/page/dist/assets services/crewbeat/page/dist/*.*
