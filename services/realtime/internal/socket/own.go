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
// and from then on those of teams that the user joins. A stream begins what its
// client has named only then, so that no cursor leaves out what is not known.
func (c *conn) followOwn(id json.RawMessage, named []channelRef) {
	if c.s.c.Own == nil {
		c.unavailable(id, "", time.Minute)
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
				c.unavailable(id, "", time.Second+rand.N(2*time.Second))
			}
			return
		}
		c.followAll(id, slices.DeleteFunc(channels, func(ch string) bool {
			return slices.ContainsFunc(named, func(r channelRef) bool { return r.Ch == ch })
		}))
	})
}

// followAll begins to follow channels, with what the client of a stream has
// named before them, as far as it does not follow them.
func (c *conn) followAll(id json.RawMessage, channels []string) {
	var refs []channelRef
	if c.stream == nil {
		for _, ch := range channels {
			refs = append(refs, channelRef{Ch: ch})
		}
	} else {
		c.mu.Lock()
		refs = c.stream.begin(channels, c.most())
		c.mu.Unlock()
	}
	for _, ref := range refs {
		if ref.unless = true; c.roomFor(ref.Ch) {
			c.subscribe(id, ref)
		} else if c.tooMany(ref.Ch) {
			c.refuse(id, ref.Ch, codeTooMany, 0)
		}
	}
}

// roomFor reports whether a channel is among those of the client, or may be.
func (c *conn) roomFor(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place(channel) >= 0 || len(c.channels) < c.most()
}

// tooMany remembers that there is no room for a channel, and reports whether
// that is news.
func (c *conn) tooMany(channel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream != nil {
		c.stream.cursor.drop(keyOf(channel))
	}
	if _, told := c.refused[channel]; told {
		return false
	}
	if c.refused == nil {
		c.refused = map[string]struct{}{}
	}
	c.refused[channel] = struct{}{}
	return true
}

// most returns how many channels a client may follow.
func (c *conn) most() int {
	if c.stream != nil {
		return c.s.c.StreamMax
	}
	return c.s.c.Channels
}

// unavailable refuses for now. The client of a stream cannot ask again but by
// another stream, so that this one ends.
func (c *conn) unavailable(id json.RawMessage, channel string, retry time.Duration) {
	if c.stream != nil {
		c.close(closeServer)
		return
	}
	c.refuse(id, channel, codeUnavailable, retry)
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
