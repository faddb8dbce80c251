package presence

import "sync"

// Visit is Enter; leave, which may be called more than once, ends it.
func (p *Presence) Visit(user string) (leave func()) {
	p.Enter(user)
	return sync.OnceFunc(func() { p.Leave(user) })
}

// Observe begins a watch that calls changed.
func (p *Presence) Observe(name string, changed func()) *Observed {
	o := &Observed{p: p, changed: changed}
	p.Watch(&o.Watch, name, o)
	return o
}

// Observed is a watch that calls a function.
type Observed struct {
	Watch
	p       *Presence
	changed func()
}

// Changed implements [Watcher].
func (o *Observed) Changed() { o.changed() }

// Stop ends it.
func (o *Observed) Stop() { o.p.Unwatch(&o.Watch) }
