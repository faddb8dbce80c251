package bench

import (
	"context"
	"io"
	"net"
	"sync/atomic"
)

// balancer hands connections to the nodes in turn, as a balancer of TCP does.
type balancer struct {
	nodes atomic.Pointer[[]string]
	next  atomic.Uint64
}

func openBalancer(ctx context.Context, _ []string) (*duties, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &balancer{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.carry(ctx, c)
		}
	}()
	return &duties{addr: l.Addr().String(), close: func(context.Context) error { return l.Close() }, commands: map[string]func(context.Context, []string) (string, error){
		"nodes": func(_ context.Context, args []string) (string, error) { b.nodes.Store(&args); return "", nil },
	}}, nil
}

func (b *balancer) carry(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	nodes := *b.nodes.Load()
	var d net.Dialer
	server, err := d.DialContext(ctx, "tcp4", nodes[b.next.Add(1)%uint64(len(nodes))])
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(server, client)
		_ = server.Close()
	}()
	pump(client, server)
	_ = client.Close()
	<-done
}

// pump copies with a small buffer of its own: thousands of splices would need
// a pipe each.
func pump(to io.Writer, from io.Reader) {
	_, _ = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 4096))
}
