package redisconn_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

func TestEveryCheckWritesAKeyOfItsOwnThatExpires(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Scan() // +OK

	cfg := config(t, map[string]string{"REDIS_URL": server.URL(), "REDIS_HEALTH_CHECK_INTERVAL": "20"})
	open(t, cfg, redisconn.Options{Name: "crewbeat-a"})
	open(t, cfg, redisconn.Options{Name: "crewbeat-b"})

	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for len(keys) < 6 && lines.Scan() {
		_, command, ok := strings.Cut(lines.Text(), `] "set" "`)
		if !ok {
			continue
		}
		key, rest, _ := strings.Cut(command, `"`)
		if keys[key] {
			t.Errorf("the key %s is used twice", key)
		}
		keys[key] = true
		if !strings.Contains(rest, `"ex" "10"`) && !strings.Contains(rest, `"px" "10000"`) {
			t.Errorf("%s does not expire: %s", key, rest)
		}
		if !strings.HasPrefix(key, "crewbeat-a:health:") && !strings.HasPrefix(key, "crewbeat-b:health:") {
			t.Errorf("key %s", key)
		}
	}
	if len(keys) < 6 {
		t.Fatalf("saw %d checks: %v", len(keys), lines.Err())
	}
}

// TestARedisThatAnswersAnotherValueIsUnhealthy speaks to a server that lies,
// which a real one cannot be made to.
func TestARedisThatAnswersAnotherValueIsUnhealthy(t *testing.T) {
	conn := open(t, config(t, map[string]string{"REDIS_URL": "redis://" + liar(t)}), redisconn.Options{})
	eventually(t, "unhealthy", 3*time.Second, func() bool {
		code, body := health(t, conn)
		return code == http.StatusServiceUnavailable && body["details"].(map[string]any)["error"] == string(redisconn.CauseWrongValue)
	})
}

// liar answers GET with what nobody has set.
func liar(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { lie(conn) })
		}
	})
	return l.Addr().String()
}

func lie(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := readCommand(in)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		switch strings.ToLower(words[0]) {
		case "hello", "info":
			answer = "-ERR unknown command\r\n"
		case "ping":
			answer = "+PONG\r\n"
		case "get":
			answer = "$3\r\nlie\r\n"
		case "del":
			answer = ":1\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func readCommand(in *bufio.Reader) ([]string, error) {
	size := func(prefix string) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, prefix)))
	}
	n, err := size("*")
	if err != nil {
		return nil, fmt.Errorf("read command: %w", err)
	}
	words := make([]string, n)
	for i := range words {
		length, err := size("$")
		if err != nil {
			return nil, err
		}
		word := make([]byte, length+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:length])
	}
	return words, nil
}
