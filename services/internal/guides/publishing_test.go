package guides_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// publish is publishRealTimeUpdate.
func publish(ctx context.Context, r redis.UniversalClient, channel, event string, data object) bool {
	message, err := json.Marshal(object{"event": event, "data": data, "timestamp": time.Now().UnixMilli()})
	return err == nil && r.Publish(ctx, channel, message).Err() == nil
}

// notifyHabitCompletion tells the user and every team of the user.
func notifyHabitCompletion(ctx context.Context, r redis.UniversalClient, user string, habit object, teams []string) {
	publish(ctx, r, "user:"+user+":habits", "habit_completed", object{"habitId": habit["id"], "habitName": habit["name"]})
	for _, team := range teams {
		publish(ctx, r, "team:"+team+":activity", "member_habit_completed", object{"userId": user, "habitName": habit["name"]})
	}
}

func (s store) updateLeaderboard(ctx context.Context, team string, scores []object) {
	s.set(ctx, "leaderboard:"+team, object{"scores": scores}, 5*time.Minute)
	publish(ctx, s.r, "team:"+team+":leaderboard", "leaderboard_updated", object{"scores": scores})
}

// hearing runs f and returns the first message on a channel.
func hearing(t *testing.T, r redis.UniversalClient, channel string, f func()) string {
	t.Helper()
	sub := r.Subscribe(t.Context(), channel)
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	f()
	m, err := sub.ReceiveMessage(t.Context())
	must(t, err)
	return m.Payload
}

var publishing = []claim{
	{"events are published before the commit", func(t *testing.T) string {
		s := guide(t)
		committed := false
		heard := hearing(t, s.r, "user:early:habits", func() {
			begun := object{"id": "h", "name": "Run"}
			notifyHabitCompletion(t.Context(), s.r, "early", begun, nil)
			commit := func() error { return errAway }
			committed = commit() == nil
		})
		return says(!committed && heard != "", "pages were told of what never was: %s", heard)
	}},
	{"events have no id", func(t *testing.T) string {
		s := guide(t)
		heard := hearing(t, s.r, "user:id:habits", func() { publish(t.Context(), s.r, "user:id:habits", "habit_completed", object{"habitId": "h"}) })
		var m object
		must(t, json.Unmarshal([]byte(heard), &m))
		return says(m["id"] == nil && m["seq"] == nil, "nobody can tell whether this comes twice, or what came between: %s", heard)
	}},
	{"a private habit's name is told to every team", func(t *testing.T) string {
		s := guide(t)
		heard := hearing(t, s.r, "team:crew:activity", func() {
			notifyHabitCompletion(t.Context(), s.r, "private", object{"id": "h", "name": "See the doctor", "private": true}, []string{"crew"})
		})
		return says(strings.Contains(heard, "See the doctor"), "the team hears %s", heard)
	}},
	{"scores are what the client says", func(t *testing.T) string {
		s := guide(t)
		var body struct{ Scores []object }
		must(t, json.Unmarshal([]byte(`{"Scores": [{"user": "mira", "score": 999999}]}`), &body)) // of a request
		heard := hearing(t, s.r, "team:scores:leaderboard", func() { s.updateLeaderboard(t.Context(), "scores", body.Scores) })
		return says(strings.Contains(heard, "999999"), "all pages show %s", heard)
	}},
}
