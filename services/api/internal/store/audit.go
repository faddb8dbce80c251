package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/admin"
)

type audit struct{ s *Store }

type auditRow struct {
	bun.BaseModel `bun:"table:audit_log,alias:a"`

	Seq     int64 `bun:",pk,autoincrement"`
	At      int64
	UserID  string `bun:",nullzero"`
	Action  string
	Subject string
	Detail  string
	IP      string `bun:"ip"`

	UserName string `bun:",scanonly"`
}

func (a audit) Append(ctx context.Context, e admin.Entry) error {
	row, err := rowOfEntry(e)
	if err != nil {
		return err
	}
	return a.s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error { return insertEntry(ctx, conn, row) })
}

func rowOfEntry(e admin.Entry) (*auditRow, error) {
	detail := []byte("{}")
	if len(e.Detail) > 0 {
		var err error
		if detail, err = json.Marshal(e.Detail); err != nil {
			return nil, fmt.Errorf("write audit entry %s: %w", e.Action, err)
		}
	}
	return &auditRow{At: e.At.UnixMilli(), UserID: e.UserID, Action: e.Action, Subject: e.Subject, Detail: string(detail), IP: e.IP}, nil
}

func insertEntry(ctx context.Context, conn bun.IDB, row *auditRow) error {
	if _, err := conn.NewInsert().Model(row).Exec(ctx); err != nil {
		return fmt.Errorf("append audit entry %s: %w", row.Action, err)
	}
	return nil
}

func (a audit) Entries(ctx context.Context, before int64, limit int) ([]admin.Entry, error) {
	var rows []auditRow
	q := a.s.db.Conn(ctx).NewSelect().Model(&rows).ColumnExpr("a.*").ColumnExpr("u.name AS user_name").
		Join("LEFT JOIN users AS u ON u.id = a.user_id").OrderExpr("a.seq DESC").Limit(int64(limit))
	if before > 0 {
		q = q.Where("a.seq < ?", before)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	list := make([]admin.Entry, 0, len(rows))
	for _, r := range rows {
		e := admin.Entry{
			Seq: r.Seq, At: fromMS(r.At), UserID: r.UserID, UserName: r.UserName,
			Action: r.Action, Subject: r.Subject, Detail: map[string]string{}, IP: r.IP,
		}
		if err := json.Unmarshal([]byte(r.Detail), &e.Detail); err != nil {
			return nil, fmt.Errorf("read audit entry %d: %w", r.Seq, err)
		}
		list = append(list, e)
	}
	return list, nil
}
