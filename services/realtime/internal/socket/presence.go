package socket

import (
	"encoding/json"
	"strings"

	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
)

// watched is a team of which a client is told who is here, since it follows
// its activity. conn.mu guards it.
type watched struct {
	presence.Watch
	c       *conn
	next    *watched // of the same client
	channel string
	rev     uint64 // of the view that it was told last; 0: of none
	waits   bool   // to be told, which is done once however much changes until then
}

// The messages of presence: all of it, and what is different.
type (
	presenceMessage struct {
		Type  string   `json:"type"`
		Ch    string   `json:"ch"`
		Users []string `json:"users"`
		Count int      `json:"count"`
	}
	presenceDiffMessage struct {
		Type   string   `json:"type"`
		Ch     string   `json:"ch"`
		Joined []string `json:"joined"`
		Left   []string `json:"left"`
		Count  int      `json:"count"`
	}
)

// noteSize is what a note of presence counts for in a queue.
const noteSize = 64

// teamOf returns the team whose activity a channel is.
func teamOf(channel string) (team string, ok bool) {
	kind, rest, _ := strings.Cut(channel, ":")
	team, topic, _ := strings.Cut(rest, ":")
	return team, kind == "team" && topic == "activity"
}

// watchTeam has the client told who is here, from the whole on. It does not
// wait, and takes no lock of the hub.
func (c *conn) watchTeam(channel string) {
	team, ok := teamOf(channel)
	if !ok || c.s.c.Presence == nil {
		return
	}
	c.mu.Lock()
	w := c.watching(channel)
	c.mu.Unlock()
	if w == nil {
		w = &watched{c: c, channel: channel}
		c.s.c.Presence.Watch(&w.Watch, team, w)
		c.mu.Lock()
		w.next, c.watched = c.watched, w
		c.mu.Unlock()
		c.s.c.Presence.Join(c.user, team)
	}
	c.tellAgain(w)
}

// watching returns what is watched of a channel, or nil; c.mu is held.
func (c *conn) watching(channel string) *watched {
	for w := c.watched; w != nil; w = w.next {
		if w.channel == channel {
			return w
		}
	}
	return nil
}

// Changed implements [presence.Watcher].
func (w *watched) Changed() { w.c.note(w) }

// unwatchTeam ends what watchTeam has begun.
func (c *conn) unwatchTeam(channel string) {
	c.mu.Lock()
	w := c.watching(channel)
	if w != nil {
		at := &c.watched
		for *at != w {
			at = &(*at).next
		}
		*at = w.next
	}
	c.mu.Unlock()
	if w != nil {
		c.s.c.Presence.Unwatch(&w.Watch)
	}
}

// tellPresence answers a client that asks who is here.
func (c *conn) tellPresence(id json.RawMessage, refs []channelRef) {
	for _, ref := range refs[:min(len(refs), c.s.c.Channels)] {
		c.mu.Lock()
		w := c.watching(ref.Ch)
		c.mu.Unlock()
		if w == nil {
			c.refuse(id, ref.Ch, codeNotFollowed, 0)
			continue
		}
		c.tellAgain(w)
	}
}

// tellAgain tells the whole.
func (c *conn) tellAgain(w *watched) {
	c.mu.Lock()
	w.rev = 0
	c.mu.Unlock()
	c.note(w)
}

// note has the client told of a team as it is by the time of writing: a slow
// reader is told of the last of many changes.
func (c *conn) note(w *watched) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing || c.closed || w.waits:
	case !c.draining:
		c.writeOrDrain(queued{note: w})
	default:
		w.waits = true
		c.enqueue(queued{note: w})
	}
}

// presence returns the message of a note, or nil if there is nothing to tell.
// It is called when the message is written; c.mu is held.
func (c *conn) presence(w *watched) []byte {
	w.waits = false
	v := w.View()
	if v == nil || v.Rev == w.rev || c.watching(w.channel) != w {
		return nil
	}
	next := v.Rev == w.rev+1 && w.rev != 0
	w.rev = v.Rev
	if next {
		return v.Diff(func(v *presence.View) []byte {
			return encode(presenceDiffMessage{Type: "presence", Ch: w.channel, Joined: some(v.Joined), Left: some(v.Left), Count: v.Count})
		})
	}
	return v.Full(func(v *presence.View) []byte {
		return encode(presenceMessage{Type: "presence", Ch: w.channel, Users: some(v.Users), Count: v.Count})
	})
}

// some returns list as JSON shows it: [] if it is empty.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
