# Crewbeat in one small image, from the sources alone: docker build -t crewbeat .
FROM --platform=$BUILDPLATFORM node:22-alpine AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web ./
COPY services/api/openapi.json /src/services/api/openapi.json
RUN npm run build

FROM --platform=$BUILDPLATFORM golang:1.26-alpine AS binary
ARG TARGETOS TARGETARCH VERSION=
WORKDIR /src
COPY pkg/tiered/go.mod pkg/tiered/go.sum pkg/tiered/
COPY services/go.mod services/go.sum services/
RUN cd services && go mod download
COPY pkg pkg
COPY services services
COPY --from=page /src/services/crewbeat/page/dist services/crewbeat/page/dist
RUN cd services && CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOWORK=off \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /crewbeat ./crewbeat

FROM scratch
COPY --from=binary /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=binary /crewbeat /crewbeat
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/crewbeat"]
