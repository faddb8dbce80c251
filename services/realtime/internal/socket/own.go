package socket

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

// followOwn has a client follow all channels of its user and the user's teams,
// beside those that it has named in the same message, with their positions;
// and from then on those of teams that the user joins.
func (c *conn) followOwn(id json.RawMessage, named []channelRef) {
	if c.s.c.Own == nil {
		c.refuse(id, "", codeUnavailable, time.Minute)
		return
	}
	c.mu.Lock()
	c.own = true
	c.mu.Unlock()
	life, exit := c.enter()
	c.spawn(func() {
		defer exit()
		ctx, cancel := context.WithTimeout(life, 5*time.Second)
		defer cancel()
		channels, err := c.s.c.Own(ctx, c.user)
		if err != nil {
			if life.Err() == nil {
				c.s.c.Log.Warn("a user's own channels are not known", slog.Any("error", err))
				c.refuse(id, "", codeUnavailable, time.Second+rand.N(2*time.Second))
			}
			return
		}
		for _, ch := range channels {
			if !slices.ContainsFunc(named, func(r channelRef) bool { return r.Ch == ch }) && !c.has(ch) {
				c.subscribe(id, channelRef{Ch: ch})
			}
		}
	})
}

// has reports whether the client follows a channel, or is about to.
func (c *conn) has(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place(channel) >= 0
}

// followNew has connections that follow all that is their user's own follow
// what has become it.
func (s *Server) followNew(list []*conn) {
	for _, c := range list {
		c.mu.Lock()
		own := c.own
		c.mu.Unlock()
		if own {
			c.followOwn(nil, nil)
		}
	}
}
