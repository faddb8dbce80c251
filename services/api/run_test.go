package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// watcher passes on what is delivered to it.
type watcher chan event.Message

func (w watcher) Deliver(m event.Message)      { w <- m }
func (w watcher) Reset(string, event.Position) {}

// From the tick to the team-mate: the change, its outbox row, the relay, the
// broker; from the position that the feed was read at, nothing is missed and
// nothing comes twice.
func TestATickReachesWhoWatchesTheTeam(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.join(t, "Mira", "Europe/Berlin")
		team := p.crew(t, nil)
		habit := p.habit(t, object{"name": "Morning run", "visibility": "team"})

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.api.Run(ctx) }()
		defer func() {
			stop()
			must(t, <-done)
		}()

		seen := make(watcher, 16)
		_, unsubscribe, err := w.broker.Subscribe(ctx, "team:"+team+":activity", seen)
		must(t, err)
		defer unsubscribe()
		body := object{"client_op_id": "one-tick"}
		p.do(t, "PUT", "/habits/"+habit+"/records/2026-11-18", body).want(t, 200)
		p.do(t, "PUT", "/habits/"+habit+"/records/2026-11-18", body).want(t, 200)
		p.do(t, "DELETE", "/habits/"+habit+"/records/2026-11-18?client_op_id="+op(), nil).want(t, 200)

		deadline := time.After(10 * time.Second)
		for _, want := range []string{"member_habit_completed", "member_habit_retracted"} {
			var m event.Message
			for m.Envelope.Event != want {
				select {
				case m = <-seen:
				case <-deadline:
					t.Fatalf("no %s", want)
				}
				if m.Envelope.Event != want && m.Envelope.Event != "member_joined" {
					t.Fatalf("got %s, want %s", m.Envelope.Event, want)
				}
			}
			var data struct {
				ActivityID string `json:"activity_id"`
				UserName   string `json:"user_name"`
				HabitName  string `json:"habit_name"`
				Day        string
			}
			must(t, json.Unmarshal(m.Envelope.Data, &data))
			if data.Day != "2026-11-18" {
				t.Errorf("%s = %s", want, m.Envelope.Data)
			}
			if want == "member_habit_completed" && (data.ActivityID != m.Envelope.ID || data.UserName != "Mira" || data.HabitName != "Morning run") {
				t.Errorf("%s %s = %s", m.Envelope.ID, want, m.Envelope.Data)
			}
		}
	})
}

func TestAConfigThatCannotWorkIsRefusedWithEverythingThatIsWrong(t *testing.T) {
	_, err := api.New(api.Config{PublicURL: "crew", TrustedProxies: []string{"10.0.0.0/8", "proxy"}})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{"Config.DB", "Config.Cache", "Config.Sessions", "Config.Broker", "PUBLIC_URL", "TRUSTED_PROXIES", `"proxy"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want it to name %s", err, want)
		}
	}
}
