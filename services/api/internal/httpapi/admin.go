package httpapi

import (
	"context"
	"net/http"

	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
)

// CacheKey names an entry of a cache.
type CacheKey struct {
	Namespace string `query:"namespace" required:"true" minLength:"1" maxLength:"64" doc:"As in GET /admin/cache." example:"user"`
	Key       string `query:"key" required:"true" minLength:"1" maxLength:"500" doc:"What key_names of the namespace says." example:"018f3c1e-6b1d-7c3a-9d2e-5b7f0a1c2d3e"`
}

// CacheInvalidation says what of the cache to drop: a tag alone, or a
// namespace with one of key, prefix or all.
type CacheInvalidation struct {
	Tag       string `json:"tag,omitempty" maxLength:"64" doc:"Every entry with it, in any namespace." example:"team:018f3c1e-6b1d-7c3a-9d2e-5b7f0a1c2d3e"`
	Namespace string `json:"namespace,omitempty" maxLength:"64" doc:"As in GET /admin/cache." example:"dashboard"`
	Key       string `json:"key,omitempty" maxLength:"500" doc:"One entry of the namespace."`
	Prefix    string `json:"prefix,omitempty" maxLength:"500" doc:"Entries of the namespace whose keys begin with it. Slow: it looks at all keys of Redis."`
	All       bool   `json:"all,omitempty" doc:"The whole namespace."`
}

// shown wraps what needs no headers.
type shown[T any] struct{ Body T }

func (s *server) admin() {
	add := func(id, route, summary string) op {
		return op{id: id, route: route, tag: "admin", summary: summary, admin: true}
	}
	register(s, add("getRedis", "GET /admin/redis", "How Redis is"),
		func(context.Context, *none) (*shown[admin.Redis], error) {
			return &shown[admin.Redis]{s.Admin.Redis()}, nil
		})
	register(s, add("getRedisProfile", "GET /admin/redis/profile", "What the commands of the process that answers took, and how they ended"),
		func(context.Context, *none) (*shown[admin.Profile], error) {
			return &shown[admin.Profile]{s.Admin.Profile()}, nil
		})
	diagnosis := add("diagnoseRedis", "GET /admin/redis/diagnose/{area}", "What is wrong with Redis, why, and what to do next")
	diagnosis.doc = "Looks now, at most a quarter of a minute. One at a time in a process: 409 while another one looks."
	diagnosis.errors = []int{http.StatusConflict}
	register(s, diagnosis, func(ctx context.Context, in *struct {
		Area string `path:"area" enum:"connection,memory,performance"`
	},
	) (*shown[admin.Diagnosis], error) {
		found, err := s.Admin.Diagnose(ctx, actor(ctx), diagnose.Area(in.Area))
		return &shown[admin.Diagnosis]{found}, err
	})
	reset := add("resetRedisProfile", "POST /admin/redis/profile/reset", "Begin the profile of the process that answers anew")
	reset.status = http.StatusNoContent
	register(s, reset, func(ctx context.Context, _ *none) (*none, error) {
		return nil, s.Admin.ResetProfile(ctx, actor(ctx))
	})
	register(s, add("getCache", "GET /admin/cache", "How the cache of the process that answers is"),
		func(context.Context, *none) (*shown[admin.Cache], error) {
			return &shown[admin.Cache]{s.Admin.Cache()}, nil
		})
	register(s, add("inspectCache", "GET /admin/cache/inspect", "What both tiers hold for a key; never the value"),
		func(ctx context.Context, in *CacheKey) (*shown[admin.Inspection], error) {
			found, err := s.Admin.Inspect(ctx, in.Namespace, in.Key)
			return &shown[admin.Inspection]{found}, err
		})
	invalidate := add("invalidateCache", "POST /admin/cache/invalidate", "Drop what is cached, everywhere")
	invalidate.doc = "Noted in the audit log first. Nothing is lost by it: what was dropped is read from the database again."
	invalidate.errors = []int{http.StatusServiceUnavailable}
	register(s, invalidate, func(ctx context.Context, in *struct{ Body CacheInvalidation }) (*shown[admin.Invalidated], error) {
		done, err := s.Admin.Invalidate(ctx, actor(ctx), admin.Invalidation(in.Body))
		return &shown[admin.Invalidated]{done}, err
	})
	register(s, add("listAlerts", "GET /admin/alerts", "Alerts, those that fire first, then the newest"),
		func(ctx context.Context, in *struct {
			Limit int `query:"limit" minimum:"1" maximum:"200" default:"50"`
		},
		) (*shown[admin.Alerts], error) {
			list, err := s.Admin.Alerts(ctx, in.Limit)
			return &shown[admin.Alerts]{list}, err
		})
	acknowledge := add("acknowledgeAlert", "POST /admin/alerts/{id}/acknowledge", "Say that you have seen an alert that fires")
	acknowledge.status, acknowledge.errors = http.StatusNoContent, []int{http.StatusConflict}
	register(s, acknowledge, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id"`
	},
	) (*none, error) {
		return nil, s.Admin.Acknowledge(ctx, actor(ctx), in.ID)
	})
	register(s, add("listAudit", "GET /admin/audit", "Who has done what as an admin, the newest first"),
		func(ctx context.Context, in *struct {
			Limit  int   `query:"limit" minimum:"1" maximum:"200" default:"50"`
			Before int64 `query:"before" minimum:"0" doc:"Entries before this one: next of the page before."`
		},
		) (*shown[admin.AuditPage], error) {
			page, err := s.Admin.Audit(ctx, in.Before, in.Limit)
			return &shown[admin.AuditPage]{page}, err
		})
}

// actor is who asks, for the audit log.
func actor(ctx context.Context) admin.Actor {
	return admin.Actor{UserID: asker(ctx).user.ID, IP: callerOf(ctx).ip}
}
