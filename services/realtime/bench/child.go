package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process that is measured from outside. It is told what to do by
// lines on its standard input, and answers each with one line.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string // where it listens, if it does
}

// start runs this program again, as one of its [Roles].
func start(role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	c := &child{name: role, cmd: exec.Command(self, append([]string{ServeArg, role}, args...)...)} // itself; stop ends it
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	if c.addr, err = c.answer(); err != nil {
		c.stop()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return c, nil
}

// ask has a command done and returns what it answers.
func (c *child) ask(words ...any) (string, error) {
	line := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return "", fmt.Errorf("ask %s to %s: %w", c.name, line, err)
	}
	v, err := c.answer()
	if err != nil {
		return "", fmt.Errorf("ask %s to %s: %w", c.name, line, err)
	}
	return v, nil
}

func (c *child) answer() (string, error) {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\n")
	if v, ok := strings.CutPrefix(line, "ok"); ok {
		return strings.TrimPrefix(v, " "), nil
	}
	return "", errors.New(line)
}

// stop ends the process, which does so when its input ends.
func (c *child) stop() {
	_ = c.in.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.cmd.Wait()
	}()
	t := time.NewTimer(20 * time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		_ = c.cmd.Process.Kill()
		<-done
	}
}

// terminate sends SIGTERM and returns how the process ended.
func (c *child) terminate(within time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(within, func() { _ = c.cmd.Process.Kill() })
	defer kill.Stop()
	return c.cmd.Wait()
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// cpu returns the processor time of a process so far, all threads and both
// modes, in the kernel's ticks of 10 ms: utime and stime of proc(5).
func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold spaces.
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("read processor time: %q is not as in proc(5)", b)
	}
	ticks := 0
	for _, s := range f[11:13] {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// resident returns the memory of a process that is not on disk, in bytes:
// VmRSS of proc(5).
func resident(pid int) (int64, error) {
	n, err := field("/proc/"+strconv.Itoa(pid)+"/status", "VmRSS:")
	return n << 10, err
}

// received returns how many bytes a process has read, from sockets too: rchar
// of proc(5).
func received(pid int) (int64, error) {
	return field("/proc/"+strconv.Itoa(pid)+"/io", "rchar:")
}

func field(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(v)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
