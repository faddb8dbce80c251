package admin

import (
	"context"
	"fmt"
	"time"
)

// Actor is who does something, and from where.
type Actor struct{ UserID, IP string }

// Entry is a line of the audit log: who did what to what, and when.
type Entry struct {
	Seq      int64             `json:"seq" doc:"Grows with each entry."`
	At       time.Time         `json:"at"`
	UserID   string            `json:"user_id,omitempty" doc:"Missing if it was done on the server, by a command."`
	UserName string            `json:"user_name,omitempty"`
	Action   string            `json:"action" example:"cache.invalidate"`
	Subject  string            `json:"subject" doc:"What it was done to." example:"tag:team:018f"`
	Detail   map[string]string `json:"detail" doc:"More about it; never a value that was cached."`
	IP       string            `json:"ip,omitempty"`
}

// Audit keeps entries. None is ever changed or removed.
type Audit interface {
	// Append adds an entry. Its Seq is given to it, and its UserName is not kept.
	Append(ctx context.Context, e Entry) error
	// Entries returns at most limit entries, the newest first, of those whose
	// Seq is below before; 0 is no bound.
	Entries(ctx context.Context, before int64, limit int) ([]Entry, error)
}

// AuditPage is a part of the audit log, the newest entries first.
type AuditPage struct {
	Items []Entry `json:"items"`
	Next  int64   `json:"next" doc:"Ask for the entries before this one to read on; 0 at the end."`
}

// Audit returns at most limit entries before one of them; 0 begins with the
// newest.
func (p *Panel) Audit(ctx context.Context, before int64, limit int) (AuditPage, error) {
	list, err := p.c.Audit.Entries(ctx, before, limit+1)
	if err != nil {
		return AuditPage{}, fmt.Errorf("read audit log: %w", err)
	}
	page := AuditPage{Items: list}
	if len(list) > limit {
		page.Items = list[:limit]
		page.Next = page.Items[limit-1].Seq
	}
	return page, nil
}

// note writes an entry, before what it is about is done.
func (p *Panel) note(ctx context.Context, by Actor, action, subject string, detail map[string]string) error {
	err := p.c.Audit.Append(ctx, Entry{At: p.c.Now(), UserID: by.UserID, Action: action, Subject: subject, Detail: detail, IP: by.IP})
	if err != nil {
		return fmt.Errorf("note %s: %w", action, err)
	}
	return nil
}
