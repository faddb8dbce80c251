package realtime_test

import (
	"slices"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// subscribed returns the channels that a client was told to follow, with how
// often.
func (c *client) subscribed() []string {
	var list []string
	for _, m := range c.messages() {
		if m.Type == "subscribed" {
			list = append(list, m.Ch)
		}
	}
	slices.Sort(list)
	return list
}

func TestTheServerSubscribesWhatIsOnesOwn(t *testing.T) {
	n := start(t, nil, nil)
	first := n.connect("jonas")
	offset := first.subscribe(team, "").Offset
	n.publish(team, 1, 3) // missed
	jonas, mira := n.connect("jonas"), n.connect("mira")
	jonas.say(`{"type":"subscribe","id":"1","own":true,"channels":[{"ch":"` + team + `","since":"` + offset + `"}]}`)
	want := []string{team, "user:jonas:habits", "user:jonas:session"}
	jonas.wait("all that is Jonas's", func() bool { return slices.Equal(jonas.subscribed(), want) })
	jonas.awaitEvents(names(1, 3)...)
	n.publish("user:jonas:habits", 4, 4)
	jonas.awaitEvents(names(1, 4)...)
	mira.say(`{"type":"subscribe","own":true}`)
	mira.wait("all that is Mira's", func() bool {
		return slices.Equal(mira.subscribed(), []string{team, "user:mira:habits", "user:mira:session"})
	})

	// A team that is joined is followed, and one that is left no more.
	lena := n.connect("lena")
	lena.subscribe("team:other:activity", "")
	if _, err := n.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('other', 'jonas', 'member')`); err != nil {
		t.Fatal(err)
	}
	n.emit(event.Event{ID: "in", Channel: "team:other:activity", Name: "member_joined", Data: []byte(`{"user_id":"jonas"}`), At: time.Now()})
	jonas.wait("the new team", func() bool { return slices.Contains(jonas.subscribed(), "team:other:activity") })
	if got := jonas.subscribed(); len(got) != 4 {
		t.Errorf("subscribed to %v, want each once", got)
	}
	if slices.Contains(mira.subscribed(), "team:other:activity") || slices.Contains(first.subscribed(), "team:other:activity") {
		t.Error("somebody follows what they have not asked for")
	}
	n.publish("team:other:activity", 5, 5)
	jonas.wait("an event of the new team", func() bool { return slices.Contains(jonas.events(), "e5") })
}
