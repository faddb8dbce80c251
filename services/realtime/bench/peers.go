package bench

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"
)

// Payload is how many bytes of payload a message carries.
const Payload = 200

// peer is another server, with nothing but its connections.
type peer interface {
	http.Handler
	// send sends a message to everybody, as the library's documentation
	// says for this.
	send(ctx context.Context, message []byte)
	count() int
}

func openPeer(make func() peer) role {
	return func(ctx context.Context, _ []string) (*duties, error) {
		p := make()
		addr, web, err := listen(ctx, p, 0)
		if err != nil {
			return nil, err
		}
		message := bytes.Repeat([]byte{'x'}, Payload)
		return &duties{addr: addr, close: func(context.Context) error { return web.Close() }, commands: map[string]func(context.Context, []string) (string, error){
			"send": func(ctx context.Context, args []string) (string, error) {
				n, err := number(args, 0)
				for range n {
					p.send(ctx, message)
				}
				return "", err
			},
			"count": func(context.Context, []string) (string, error) { return strconv.Itoa(p.count()), nil },
		}}, nil
	}
}

// members are the connections of a peer.
type members[C any] struct {
	mu   sync.Mutex
	list []C
}

func (m *members[C]) add(c C) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, c)
}

func (m *members[C]) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.list)
}

func (m *members[C]) all() []C {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list // it is only appended to
}

// raw is the floor: a loop of writes to connections that nobody reads.
type raw struct{ members[net.Conn] }

func newRaw() peer { return &raw{} }

func (p *raw) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nc, _, _, err := ws.UpgradeHTTP(r, w)
	if err == nil {
		p.add(nc)
	}
}

func (p *raw) send(_ context.Context, message []byte) {
	frame := ws.MustCompileFrame(ws.NewTextFrame(message))
	for _, c := range p.all() {
		_, _ = c.Write(frame)
	}
}

type gorillas struct {
	members[*gorilla.Conn]
	up gorilla.Upgrader
}

func newGorilla() peer { return &gorillas{} }

func (p *gorillas) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := p.up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	p.add(c)
	for {
		if _, _, err := c.NextReader(); err != nil {
			return
		}
	}
}

func (p *gorillas) send(_ context.Context, message []byte) {
	prepared, err := gorilla.NewPreparedMessage(gorilla.TextMessage, message)
	if err != nil {
		panic(err)
	}
	for _, c := range p.all() {
		_ = c.WritePreparedMessage(prepared)
	}
}

type coders struct{ members[*coder.Conn] }

func newCoder() peer { return &coders{} }

func (p *coders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := coder.Accept(w, r, nil)
	if err != nil {
		return
	}
	p.add(c)
	<-c.CloseRead(context.WithoutCancel(r.Context())).Done()
}

func (p *coders) send(ctx context.Context, message []byte) {
	for _, c := range p.all() {
		_ = c.Write(ctx, coder.MessageText, message)
	}
}

type gwss struct {
	gws.BuiltinEventHandler
	members[*gws.Conn]
	up *gws.Upgrader
}

func newGws() peer {
	p := &gwss{}
	p.up = gws.NewUpgrader(p, &gws.ServerOption{})
	return p
}

func (p *gwss) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := p.up.Upgrade(w, r)
	if err != nil {
		return
	}
	p.add(c)
	go c.ReadLoop() // so that the handler returns, as the documentation has it
}

func (p *gwss) send(_ context.Context, message []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, message)
	defer func() { _ = b.Close() }()
	for _, c := range p.all() {
		_ = b.Broadcast(c)
	}
}
