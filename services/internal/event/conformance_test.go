package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

func TestMemoryConforms(t *testing.T) {
	conform(t, func(t *testing.T, o event.Options) event.Broker {
		b, err := event.NewMemory(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	})
}

func TestRedisConforms(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conform(t, func(t *testing.T, o event.Options) event.Broker {
		return newRedis(t, server, o)
	})
}

func newRedis(t testing.TB, server *tieredtest.Redis, o event.Options) *event.Redis {
	t.Helper()
	b, err := event.NewRedis(t.Context(), server.Client(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// conform holds what every Broker promises.
func conform(t *testing.T, open func(*testing.T, event.Options) event.Broker) {
	channel := func(t *testing.T) string {
		name := []rune(t.Name())
		for i, r := range name {
			if r == '/' {
				name[i] = '_'
			}
		}
		return "team:" + string(name[max(0, len(name)-60):]) + ":activity"
	}

	t.Run("EventsArriveInOrderWithTheirPositions", func(t *testing.T) {
		b := open(t, event.Options{})
		w, at, _ := subscribe(t, b, channel(t))
		publish(t, b, channel(t), 1, 50)
		w.awaitIDs(t, names(1, 50)...)
		prev := at.ID
		for _, m := range w.got {
			if m.Prev != prev || !prev.Before(m.At.ID) {
				t.Fatalf("%s has %s before it, want %s", m.At, m.Prev, prev)
			}
			prev = m.At.ID
			if m.At.Epoch != at.Epoch || m.Envelope.Offset != m.At.String() || m.Envelope.Epoch != at.Epoch {
				t.Fatalf("envelope says offset %q epoch %q, want %s", m.Envelope.Offset, m.Envelope.Epoch, m.At)
			}
		}
	})

	t.Run("TheEnvelopeHoldsTheEvent", func(t *testing.T) {
		b := open(t, event.Options{})
		w, _, _ := subscribe(t, b, channel(t))
		e := numbered(channel(t), 7)
		e.Class, e.Data = event.Latest, []byte(`{"s":"a \"b\"\nü </script>"}`)
		if _, err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		w.awaitIDs(t, "e7")
		got := w.got[0].Envelope
		if got.Event != e.Name || got.Class != event.Latest || got.V != 1 || got.Channel != e.Channel || !got.Timestamp.Equal(e.At) {
			t.Fatalf("got %+v", got)
		}
		var s struct{ S string }
		if err := json.Unmarshal(got.Data, &s); err != nil || s.S != "a \"b\"\nü </script>" {
			t.Fatalf("data %s: %v", got.Data, err)
		}
	})

	t.Run("AnEventIsPublishedOnce", func(t *testing.T) {
		b := open(t, event.Options{})
		w, _, _ := subscribe(t, b, channel(t))
		first, err := b.Publish(t.Context(), numbered(channel(t), 1))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				at, err := b.Publish(t.Context(), numbered(channel(t), 1))
				if err != nil || at != first {
					t.Errorf("published again at %s (%v), want %s", at, err, first)
				}
			})
		}
		wg.Wait()
		publish(t, b, channel(t), 2, 2)
		w.awaitIDs(t, "e1", "e2")
	})

	t.Run("ManyEventsAreEachPublishedInTheOrderOfTheirChannel", func(t *testing.T) {
		b := open(t, event.Options{})
		const total = 300
		watches := map[string]*watch{}
		want := map[string][]string{}
		var events []event.Event
		for n := range total {
			name := "user:" + channel(t)[5:len(channel(t))-9] + string(rune('a'+n*n%5)) + ":habits"
			if watches[name] == nil {
				watches[name], _, _ = subscribe(t, b, name)
			}
			events = append(events, numbered(name, n))
			want[name] = append(want[name], "e"+strconv.Itoa(n))
		}
		bad := numbered(channel(t), 1)
		bad.Data = []byte("{")
		events = append(events, bad, events[7]) // one that is never taken, one for the second time
		outs := b.PublishAll(t.Context(), events)
		if len(outs) != len(events) {
			t.Fatalf("%d outcomes of %d events", len(outs), len(events))
		}
		for i, out := range outs[:total] {
			if out.Err != nil || out.Again || out.At.IsZero() {
				t.Fatalf("event %d: %+v", i, out)
			}
		}
		if !errors.Is(outs[total].Err, event.ErrInvalid) {
			t.Errorf("the bad one: %+v", outs[total])
		}
		if again := outs[total+1]; again.Err != nil || !again.Again || again.At != outs[7].At {
			t.Errorf("the one sent twice: %+v, want %s again", again, outs[7].At)
		}
		for name, w := range watches {
			w.awaitIDs(t, want[name]...)
		}
		for i, e := range events[:total] {
			if m := watches[e.Channel].got[slices.Index(want[e.Channel], e.ID)]; m.At != outs[i].At {
				t.Fatalf("%s arrived at %s, published at %s", e.ID, m.At, outs[i].At)
			}
		}
	})

	t.Run("AnEmptyChannelHasAPosition", func(t *testing.T) {
		b := open(t, event.Options{})
		at, err := b.Position(t.Context(), channel(t))
		if err != nil || at.IsZero() {
			t.Fatalf("position %q: %v", at, err)
		}
		publish(t, b, channel(t), 1, 2)
		h, err := b.Since(t.Context(), channel(t), at, 10)
		if err != nil || h.Reset != "" || len(h.Messages) != 2 || h.More() {
			t.Fatalf("since %s: %+v, %v", at, h, err)
		}
		if again, _ := b.Position(t.Context(), channel(t)); again != h.Last || again != h.Messages[1].At {
			t.Fatalf("position %s, history ends at %s", again, h.Last)
		}
	})

	t.Run("HistoryIsReadInPages", func(t *testing.T) {
		b := open(t, event.Options{})
		at, _ := b.Position(t.Context(), channel(t))
		publish(t, b, channel(t), 1, 25)
		var got []string
		for {
			h, err := b.Since(t.Context(), channel(t), at, 10)
			if err != nil || h.Reset != "" {
				t.Fatalf("since %s: %q, %v", at, h.Reset, err)
			}
			for _, m := range h.Messages {
				got, at = append(got, m.Envelope.ID), m.At
			}
			if !h.More() {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(names(1, 25)) {
			t.Fatalf("got %v", got)
		}
	})

	t.Run("AReaderFromTooFarBackIsReset", func(t *testing.T) {
		b := open(t, event.Options{Keep: 10})
		at, _ := b.Position(t.Context(), channel(t))
		publish(t, b, channel(t), 1, 300) // Redis trims whole nodes of its stream
		h, err := b.Since(t.Context(), channel(t), at, 10)
		if err != nil || h.Reset != event.ResetTrimmed || len(h.Messages) != 0 || h.More() {
			t.Fatalf("%+v, %v", h, err)
		}
	})

	t.Run("AReaderOfAnotherHistoryIsReset", func(t *testing.T) {
		b := open(t, event.Options{})
		publish(t, b, channel(t), 1, 3)
		last, _ := b.Position(t.Context(), channel(t))
		before := event.Position{Epoch: last.Epoch, ID: event.ID{Ms: last.ID.Ms, Seq: last.ID.Seq - 1}}
		ahead := event.Position{Epoch: last.Epoch, ID: event.ID{Ms: last.ID.Ms + 1000}}
		for _, tt := range []struct {
			name  string
			after event.Position
			want  string
		}{
			{"none at all", event.Position{}, event.ResetEpoch},
			{"another epoch", event.Position{Epoch: "other", ID: last.ID}, event.ResetEpoch},
			{"ahead of it", ahead, event.ResetRewound},
			{"an id that was never given out", before, event.ResetRewound},
		} {
			h, err := b.Since(t.Context(), channel(t), tt.after, 10)
			if err != nil || h.Reset != tt.want || h.Last != last {
				t.Errorf("%s: reset %q at %s, %v; want %q at %s", tt.name, h.Reset, h.Last, err, tt.want, last)
			}
		}
	})

	t.Run("EverySubscriberGetsEveryEventUntilItStops", func(t *testing.T) {
		b := open(t, event.Options{})
		w1, _, stop := subscribe(t, b, channel(t))
		w2, _, _ := subscribe(t, b, channel(t))
		publish(t, b, channel(t), 1, 3)
		w1.awaitIDs(t, names(1, 3)...)
		w2.awaitIDs(t, names(1, 3)...)
		stop()
		stop()
		publish(t, b, channel(t), 4, 5)
		w2.awaitIDs(t, names(1, 5)...)
		w1.awaitIDs(t, names(1, 3)...)
	})

	t.Run("ChannelsAreApart", func(t *testing.T) {
		b := open(t, event.Options{})
		w, _, _ := subscribe(t, b, channel(t))
		publish(t, b, "user:1:habits", 1, 3)
		publish(t, b, channel(t), 4, 4)
		w.awaitIDs(t, "e4")
	})

	t.Run("AnEphemeralEventIsNotKept", func(t *testing.T) {
		b := open(t, event.Options{})
		w, at, _ := subscribe(t, b, channel(t))
		publish(t, b, channel(t), 1, 1)
		e := numbered(channel(t), 2)
		e.Class = event.Ephemeral
		if _, err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		publish(t, b, channel(t), 3, 3)
		w.awaitIDs(t, "e1", "e2", "e3")
		if w.got[1].At != w.got[0].At {
			t.Errorf("an ephemeral event moved the position to %s", w.got[1].At)
		}
		h, err := b.Since(t.Context(), channel(t), at, 10)
		if err != nil || len(h.Messages) != 2 {
			t.Fatalf("history holds %d events, want 2: %v", len(h.Messages), err)
		}
	})

	t.Run("SubscribingAmidPublishingMissesNothing", func(t *testing.T) {
		b := open(t, event.Options{Keep: 1 << 20}) // whatever is published while a reader is slow
		var wg sync.WaitGroup
		defer wg.Wait()
		enough := make(chan struct{})
		defer close(enough)
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-enough:
					return
				default:
				}
				if _, err := b.Publish(t.Context(), numbered(channel(t), n)); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
		for range 20 {
			w, at, stop := subscribe(t, b, channel(t))
			w.await(t, "a few events", func(w *watch) bool { return len(w.got) >= 5 })
			stop()
			prev := at.ID
			for _, m := range w.got {
				if m.Prev != prev {
					t.Fatalf("%s follows %s, but %s was delivered before it", m.At, m.Prev, prev)
				}
				prev = m.At.ID
			}
			if len(w.resets) > 0 {
				t.Fatalf("resets %v", w.resets)
			}
			h, err := b.Since(t.Context(), channel(t), at, 5)
			if err != nil || h.Reset != "" || len(h.Messages) != 5 || h.Messages[4].At != w.got[4].At {
				t.Fatalf("since %s: %+v, %v", at, h, err)
			}
		}
	})

	t.Run("WhatCannotBePublishedIsRefused", func(t *testing.T) {
		b := open(t, event.Options{})
		for _, tt := range []struct {
			name   string
			change func(e *event.Event)
		}{
			{"no channel", func(e *event.Event) { e.Channel = "" }},
			{"a channel of one part", func(e *event.Event) { e.Channel = "team" }},
			{"a channel that breaks keys", func(e *event.Event) { e.Channel = "team:{1}:a" }},
			{"a channel with a line break", func(e *event.Event) { e.Channel = "team:1:a\n" }},
			{"no id", func(e *event.Event) { e.ID = "" }},
			{"an id with a space", func(e *event.Event) { e.ID = "a b" }},
			{"a name with a NUL", func(e *event.Event) { e.Name = "a\x00" }},
			{"no data", func(e *event.Event) { e.Data = nil }},
			{"data that is not JSON", func(e *event.Event) { e.Data = []byte("{") }},
			{"data that is not UTF-8", func(e *event.Event) { e.Data = []byte("\"\xff\"") }},
			{"too much data", func(e *event.Event) {
				e.Data = append(append([]byte(`"`), bytes.Repeat([]byte("x"), event.MaxData)...), '"')
			}},
			{"an unknown class", func(e *event.Event) { e.Class = "urgent" }},
		} {
			e := numbered(channel(t), 1)
			tt.change(&e)
			if _, err := b.Publish(t.Context(), e); !errors.Is(err, event.ErrInvalid) {
				t.Errorf("%s: %v, want ErrInvalid", tt.name, err)
			}
		}
		if _, _, err := b.Subscribe(t.Context(), "team:*:activity", newWatch()); !errors.Is(err, event.ErrInvalid) {
			t.Errorf("subscribe to a pattern: %v", err)
		}
	})

	t.Run("ThePublicationIsInTheTraceOfTheWriter", func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		b := open(t, event.Options{Tracer: tp})
		w, _, _ := subscribe(t, b, channel(t))
		e := numbered(channel(t), 1)
		e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		if _, err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		w.awaitIDs(t, "e1")
		var producer sdktrace.ReadOnlySpan
		for _, s := range spans.Ended() {
			if s.SpanKind() == trace.SpanKindProducer {
				producer = s
			}
		}
		if producer == nil || producer.Name() != "publish team:{id}:activity" {
			t.Fatalf("producer span is %v", producer)
		}
		if producer.Parent().SpanID().String() != "00f067aa0ba902b7" {
			t.Errorf("its parent is %s", producer.Parent().SpanID())
		}
		sc := event.SpanContext(w.got[0].Envelope.Trace)
		if sc.TraceID() != producer.SpanContext().TraceID() || sc.SpanID() != producer.SpanContext().SpanID() || !sc.IsSampled() {
			t.Errorf("the envelope says %q, want the producer's span", w.got[0].Envelope.Trace)
		}
		for _, a := range producer.Attributes() {
			if strings.Contains(a.Value.String(), strings.Split(channel(t), ":")[1]) {
				t.Errorf("attribute %s holds an id: %s", a.Key, a.Value.String())
			}
		}
	})

	t.Run("AReaderWhoWasAwayForTenMinutesResumes", func(t *testing.T) {
		now := time.UnixMilli(1_700_000_000_000)
		b := open(t, event.Options{Now: func() time.Time { return now }})
		publish(t, b, channel(t), 1, 2)
		at, err := b.Position(t.Context(), channel(t))
		if err != nil {
			t.Fatal(err)
		}
		publish(t, b, channel(t), 3, 4)
		now = now.Add(10 * time.Minute)
		for n := range 1100 { // enough for what is old to be forgotten
			if _, err := b.Position(t.Context(), "user:"+strconv.Itoa(n)+":habits"); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, b, channel(t), 5, 6)
		h, err := b.Since(t.Context(), channel(t), at, 10)
		if err != nil || h.Reset != "" || len(h.Messages) != 4 || h.Messages[0].Envelope.ID != "e3" {
			t.Fatalf("resumed with %+v, %v", h, err)
		}
	})

	t.Run("ClassesInterleavedKeepTheOrderOfTheKeptOnes", func(t *testing.T) {
		b := open(t, event.Options{})
		w, at, _ := subscribe(t, b, channel(t))
		classes := []event.Class{event.Durable, event.Ephemeral, event.Latest, event.Durable, event.Latest, event.Ephemeral}
		var all, kept []string
		for n := range 60 {
			e := numbered(channel(t), n)
			e.Class = classes[n%len(classes)]
			if _, err := b.Publish(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			all = append(all, e.ID)
			if e.Class != event.Ephemeral {
				kept = append(kept, e.ID)
			}
		}
		w.awaitIDs(t, all...)
		for n, m := range w.got {
			if m.Envelope.Class != classes[n%len(classes)] {
				t.Errorf("%s has class %s", m.Envelope.ID, m.Envelope.Class)
			}
		}
		h, err := b.Since(t.Context(), channel(t), at, 100)
		if err != nil || h.Reset != "" {
			t.Fatalf("%+v, %v", h, err)
		}
		var ids []string
		for _, m := range h.Messages {
			ids = append(ids, m.Envelope.ID)
		}
		if fmt.Sprint(ids) != fmt.Sprint(kept) {
			t.Errorf("kept %v, want %v", ids, kept)
		}
	})

	t.Run("ClosedIsClosed", func(t *testing.T) {
		b := open(t, event.Options{})
		w, _, stop := subscribe(t, b, channel(t))
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Subscribe(t.Context(), channel(t), w); !errors.Is(err, event.ErrClosed) {
			t.Errorf("subscribe: %v", err)
		}
		stop()
		if err := b.Close(); err != nil {
			t.Errorf("close twice: %v", err)
		}
	})
}
