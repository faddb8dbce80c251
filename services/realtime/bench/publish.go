package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// framing is what an event's data has beside its padding.
const framing = len(`{"n":123456789,"x":""}`)

// publishing is what a process publishes.
type publishing struct {
	*stores
	pad string

	mu   sync.Mutex
	made int
	end  context.CancelFunc // of the stream under way
	done chan struct{}
	err  error
}

func (p *publishing) event(channel string) event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	// Unique over processes and runs of this machine.
	return event.Event{
		ID: "e" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.Itoa(p.made), Channel: channel,
		Name: "member_habit_completed", At: time.Now(),
		Data: []byte(fmt.Sprintf(`{"n":%9d,"x":"%s"}`, p.made-1, p.pad)),
	}
}

func (p *publishing) publish(ctx context.Context, channels []string) error {
	events := make([]event.Event, len(channels))
	for i, ch := range channels {
		events[i] = p.event(ch)
	}
	for _, out := range p.broker.PublishAll(ctx, events) {
		if out.Err != nil {
			return out.Err
		}
	}
	return nil
}

// burst CHANNEL N publishes N events at once.
func (p *publishing) burst(ctx context.Context, args []string) (string, error) {
	n, err := number(args, 1)
	if err != nil {
		return "", err
	}
	channels := make([]string, n)
	for i := range channels {
		channels[i] = args[0]
	}
	return "", p.publish(ctx, channels)
}

// stream PATTERN CHANNELS BATCH PER_SECOND [SIZE] publishes until stop, events
// that are numbered from 0: batches of
// events, each to the next of the channels that PATTERN makes with a number.
// PER_SECOND batches are begun a second; 0 means as fast as it goes.
func (p *publishing) stream(ctx context.Context, args []string) (string, error) {
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = number(args, i+1); err != nil {
			return "", err
		}
	}
	if size, err := number(args, 4); err == nil {
		p.pad = strings.Repeat("x", size-framing)
	}
	ctx, p.end = context.WithCancel(ctx)
	p.done, p.made = make(chan struct{}), 0
	go func() {
		defer close(p.done)
		p.err = p.run(ctx, args[0], n[0], n[1], n[2])
	}()
	return "", nil
}

func (p *publishing) run(ctx context.Context, pattern string, channels, size, perSecond int) error {
	began := time.Now()
	next := 0
	for n := 1; ctx.Err() == nil; n++ {
		batch := make([]string, size)
		for i := range batch {
			batch[i] = pattern
			if strings.Contains(pattern, "%d") {
				batch[i] = fmt.Sprintf(pattern, next%channels)
			}
			next++
		}
		if err := p.publish(context.WithoutCancel(ctx), batch); err != nil {
			return err
		}
		if perSecond == 0 {
			continue
		}
		// Where it is late it catches up: the load does not depend on how fast
		// it is taken.
		t := time.NewTimer(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(perSecond))))
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// stop ends the stream and returns how many events it published.
func (p *publishing) stop(context.Context, []string) (string, error) {
	p.end()
	<-p.done
	return strconv.Itoa(p.made), p.err
}
