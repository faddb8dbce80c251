package socket

import "time"

// moment is nanoseconds since the server began; zero is none. A connection
// holds several, each a third of the size of a [time.Time].
type moment int64

func (s *Server) moment(t time.Time) moment { return moment(t.Sub(s.began)) }

func (m moment) add(d time.Duration) moment { return m + moment(d) }

// after returns how long after o m is.
func (m moment) after(o moment) time.Duration { return time.Duration(m - o) }
