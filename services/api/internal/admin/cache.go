package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/caching"
)

// Cache is how the tiered cache of this process is and what it has done.
type Cache struct {
	Node       string           `json:"node" doc:"The process that answers. Each has memory and a history of its own."`
	At         time.Time        `json:"at"`
	Health     CacheHealth      `json:"health"`
	Stats      tiered.Stats     `json:"stats" doc:"Since the process began; times in nanoseconds."`
	Namespaces []CacheNamespace `json:"namespaces"`
	Every      int              `json:"sample_seconds" doc:"Seconds between two samples."`
	Samples    []Sample         `json:"samples" doc:"The last hour at most, the oldest first."`
}

// CacheHealth is the state of the cache.
type CacheHealth struct {
	Status    string        `json:"status" enum:"healthy,degraded,down"`
	Redis     bool          `json:"redis" doc:"false: memory only, as set up."`
	Breaker   string        `json:"breaker" doc:"closed, half-open or open; empty without Redis."`
	Coherent  bool          `json:"coherent" doc:"Whether invalidations of other processes arrive."`
	Lag       time.Duration `json:"lag_ns" doc:"Since the canary of the backplane was heard; 0 if never."`
	Recovery  int           `json:"recovery_queue" doc:"Writes that Redis has not been told of yet."`
	Failovers uint64        `json:"failovers"`
}

// CacheNamespace is one cache of the store, and what it is for.
type CacheNamespace struct {
	tiered.Namespace
	KeyNames string `json:"key_names" doc:"What a key names." example:"user id"`
	Holds    string `json:"holds"`
	Ends     string `json:"ends" doc:"What makes an entry go before its time."`
}

// Cache returns how the cache is. It asks nobody.
func (p *Panel) Cache() Cache {
	h := p.c.Cache.Health()
	all := Cache{
		Node: p.c.Node, At: p.c.Now().UTC(), Stats: p.c.Cache.Stats(), Namespaces: []CacheNamespace{},
		Every: int(SampleEvery / time.Second), Samples: p.history.samples(),
		Health: CacheHealth{
			Status: string(h.Status), Redis: h.Redis, Breaker: h.Breaker, Coherent: h.Coherent,
			Lag: h.Lag, Recovery: h.Recovery, Failovers: h.Failovers,
		},
	}
	for _, n := range p.c.Cache.Namespaces() {
		described := CacheNamespace{Namespace: n}
		for _, s := range caching.Spaces {
			if s.Name == n.Name {
				described.KeyNames, described.Holds, described.Ends = s.Key, s.Holds, s.Ends
			}
		}
		all.Namespaces = append(all.Namespaces, described)
	}
	return all
}

// Inspection is what both tiers hold for a key.
type Inspection = tiered.Inspection

// Inspect tells what both tiers hold for a key, and never its value. It asks
// Redis, and changes nothing.
func (p *Panel) Inspect(ctx context.Context, namespace, key string) (Inspection, error) {
	in, err := p.c.Cache.Inspect(ctx, namespace, key)
	if err != nil {
		return Inspection{}, p.explain(err, namespace)
	}
	return in, nil
}

// Invalidation says what of the cache to drop: by Tag alone, or in a Namespace
// by one of Key, Prefix or All.
type Invalidation struct {
	Tag       string
	Namespace string
	Key       string
	Prefix    string
	All       bool
}

// subject is what is noted in the audit log; an error says what to send instead.
func (i Invalidation) subject() (string, error) {
	ways := 0
	for _, given := range []bool{i.Key != "", i.Prefix != "", i.All} {
		if given {
			ways++
		}
	}
	switch {
	case strings.ContainsFunc(i.Tag+i.Namespace+i.Key+i.Prefix, unicode.IsControl):
		return "", fault.Invalidf("key", "it holds characters that cannot be shown: send plain text")
	case i.Tag != "" && (i.Namespace != "" || ways > 0):
		return "", fault.Invalidf("tag", "a tag reaches over all namespaces: send it alone")
	case i.Tag != "":
		return "tag:" + i.Tag, nil
	case i.Namespace == "":
		return "", fault.Invalidf("namespace", "there is nothing to invalidate: send a tag, or a namespace with one of key, prefix or all")
	case ways != 1:
		return "", fault.Invalidf("namespace", "send one of key, prefix or all with the namespace, not %d of them", ways)
	case i.Key != "":
		return "key:" + i.Namespace + ":" + i.Key, nil
	case i.Prefix != "":
		return "prefix:" + i.Namespace + ":" + i.Prefix, nil
	}
	return "namespace:" + i.Namespace, nil
}

// Invalidated is what came of an invalidation.
type Invalidated struct {
	Subject  string `json:"subject" doc:"As it stands in the audit log."`
	Deleted  *int   `json:"deleted,omitempty" doc:"Entries that were there; of a prefix only."`
	Recovery int    `json:"recovery_queue" doc:"Writes that Redis, being away, will be told of when it is back; 0 if it knows all."`
}

// Invalidate drops what in says in both tiers and all processes, after noting
// it in the audit log. [ErrIncomplete] means that this process has dropped it
// and Redis not all of it: the same again completes it.
func (p *Panel) Invalidate(ctx context.Context, by Actor, in Invalidation) (Invalidated, error) {
	subject, err := in.subject()
	if err != nil {
		return Invalidated{}, err
	}
	if in.Namespace != "" && !slices.Contains(p.names(), in.Namespace) {
		return Invalidated{}, p.explain(tiered.ErrNamespace, in.Namespace)
	}
	if err := p.note(ctx, by, "cache.invalidate", subject, nil); err != nil {
		return Invalidated{}, err
	}
	done := Invalidated{Subject: subject}
	if err := p.invalidate(ctx, in, &done); err != nil {
		// What was noted has not happened as noted, and the asker may be gone.
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		detail := map[string]string{}
		if done.Deleted != nil {
			detail["deleted"] = strconv.Itoa(*done.Deleted)
		}
		return Invalidated{}, errors.Join(p.explain(err, in.Namespace), p.note(bounded, by, "cache.invalidate.failed", subject, detail))
	}
	done.Recovery = p.c.Cache.Health().Recovery
	return done, nil
}

func (p *Panel) invalidate(ctx context.Context, in Invalidation, done *Invalidated) error {
	switch {
	case in.Tag != "":
		return p.c.Cache.InvalidateTags(ctx, in.Tag)
	case in.Key != "":
		return p.c.Cache.InvalidateKey(ctx, in.Namespace, in.Key)
	case in.Prefix != "":
		n, err := p.c.Cache.InvalidatePrefix(ctx, in.Namespace, in.Prefix)
		done.Deleted = &n
		return err
	}
	return p.c.Cache.Clear(ctx, in.Namespace)
}

// explain turns an error of the cache into what the asker can change.
func (p *Panel) explain(err error, namespace string) error {
	switch {
	case errors.Is(err, tiered.ErrNamespace):
		return fault.Invalidf("namespace", "there is no cache of this name: send one of %s", strings.Join(p.names(), ", "))
	case errors.Is(err, tiered.ErrKey):
		return fault.Invalidf("key", "this is no key of %s: see key_names of GET /admin/cache", namespace)
	case errors.Is(err, tiered.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return err
}

func (p *Panel) names() []string {
	var names []string
	for _, n := range p.c.Cache.Namespaces() {
		names = append(names, n.Name)
	}
	return names
}
