package api_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// scene is what an operation finds: a team with somebody in each role, and a
// habit of the asker.
type scene struct {
	team, habit, invite, token, victim, session string
	email                                       string
}

// may says what an operation answers to whom. Everybody signed in may do with
// the own account and the own habits what these operations do.
type may struct {
	anonymous, outsider, viewer, member, manager, owner int

	admin int // of the installation; 0 as an outsider
	body  func(s scene) any
	head  []string
}

func own(status int) may {
	return may{anonymous: 401, outsider: status, viewer: status, member: status, manager: status, owner: status}
}

func open(status int) may {
	m := own(status)
	m.anonymous = status
	return m
}

// teamRead is for everybody in the team; teamWrite for those who manage it.
func teamRead(status int) may {
	m := own(status)
	m.outsider = 404
	return m
}

func teamWrite(status int) may {
	m := teamRead(status)
	m.viewer, m.member = 403, 403
	return m
}

// adminsOnly is for those who run the installation, whatever else they are.
func adminsOnly(status int) may {
	m := own(403)
	m.admin = status
	return m
}

func (m may) with(body func(s scene) any) may { m.body = body; return m }

func (m may) conditional() may { m.head = []string{"If-Match", "*"}; return m }

// rights is the authorisation table: every operation of the document against
// every role. An operation that is not here fails the test.
var rights = map[string]may{
	"getHealth":      open(200),
	"register":       open(201).with(func(s scene) any { return registration(s.email) }),
	"login":          open(200).with(func(s scene) any { return object{"email": "login@example.org", "password": password} }),
	"lookupInvite":   open(200).with(func(s scene) any { return object{"token": s.token} }),
	"logout":         own(204),
	"getMe":          own(200),
	"updateMe":       own(200).conditional().with(func(scene) any { return object{"name": "New"} }),
	"listSessions":   own(200),
	"revokeSession":  own(204),
	"revokeSessions": own(204),
	"changePassword": own(204).with(func(scene) any {
		return object{"current": password, "new": "another good horse"}
	}),

	"listHabits":   own(200),
	"createHabit":  own(201).with(func(scene) any { return object{"name": "Run", "schedule": daily()} }),
	"getHabit":     own(200),
	"updateHabit":  own(200).conditional().with(func(scene) any { return object{"name": "Swim"} }),
	"archiveHabit": own(204).conditional(),
	"listRecords":  own(200),
	"putRecord":    own(200).with(func(scene) any { return object{"client_op_id": op()} }),
	"addToRecord":  own(200).with(func(scene) any { return object{"delta_milli": 1000, "client_op_id": op()} }),
	"clearRecord":  own(200),
	"getStats":     own(200),
	"getDashboard": own(200),

	"getRedis":          adminsOnly(200),
	"getRedisProfile":   adminsOnly(200),
	"resetRedisProfile": adminsOnly(204),
	"diagnoseRedis":     adminsOnly(200),
	"getCache":          adminsOnly(200),
	"inspectCache":      adminsOnly(200),
	"invalidateCache":   adminsOnly(200).with(func(s scene) any { return object{"tag": "team:" + s.team} }),
	"listAlerts":        adminsOnly(200),
	"acknowledgeAlert":  adminsOnly(409), // there is none
	"listAudit":         adminsOnly(200),

	"listTeams":     own(200),
	"createTeam":    own(201).with(func(scene) any { return object{"name": "Dock Crew"} }),
	"acceptInvite":  own(200).with(func(s scene) any { return object{"token": s.token} }),
	"getTeam":       teamRead(200),
	"listActivity":  teamRead(200),
	"updateTeam":    teamWrite(200).conditional().with(func(scene) any { return object{"name": "Dock Crew"} }),
	"createInvite":  teamWrite(201).with(func(scene) any { return object{} }),
	"listInvites":   teamWrite(200),
	"revokeInvite":  teamWrite(204),
	"removeMember":  teamWrite(204),
	"setMemberRole": {anonymous: 401, outsider: 404, viewer: 403, member: 403, manager: 403, owner: 200, body: func(scene) any { return object{"role": "viewer"} }},
}

func registration(email string) any {
	return object{"email": email, "name": "New", "password": "long enough to be one", "tz": "Europe/Berlin"}
}

func TestEveryOperationIsForThoseInTheTableOnly(t *testing.T) {
	w := newWorld(t, sqlite(t))
	login := w.join(t, "Login", "UTC")
	login.user.Email, login.user.Version = "login@example.org", 2
	must(t, w.store.Accounts().SaveUser(t.Context(), login.user))

	d := readDocument(t)
	var listed []string
	for path, item := range d.Paths {
		if strings.HasPrefix(path, "/rt/") {
			continue // of another service, whose tests say who may follow what
		}
		for method, o := range item {
			listed = append(listed, o.OperationID)
			m, ok := rights[o.OperationID]
			if !ok {
				t.Errorf("%s (%s %s) is not in the table", o.OperationID, method, path)
				continue
			}
			if closed := len(o.Security) > 0; closed != (m.anonymous == 401) {
				t.Errorf("%s: the document and the table differ on whether it needs a session", o.OperationID)
			}
			for role, want := range map[string]int{
				"anonymous": m.anonymous, "outsider": m.outsider, "viewer": m.viewer,
				"member": m.member, "manager": m.manager, "owner": m.owner, "admin": cmp.Or(m.admin, m.outsider),
			} {
				t.Run(o.OperationID+"/"+role, func(t *testing.T) {
					asker, s := w.scene(t, role)
					var body any
					if m.body != nil {
						body = m.body(s)
					}
					r := asker.do(t, strings.ToUpper(method), s.fill(method, path), body, m.head...)
					if r.status != want {
						t.Errorf("%s %s = %d, want %d: %s", method, path, r.status, want, r.body)
					}
				})
			}
		}
	}
	for id := range rights {
		if !slices.Contains(listed, id) {
			t.Errorf("%s is in the table and not in the document", id)
		}
	}
}

// scene makes a team of its own, so that cases do not meet.
func (w *world) scene(t *testing.T, role string) (*person, scene) {
	t.Helper()
	owner, victim := w.join(t, "Owner", "UTC"), w.join(t, "Victim", "UTC")
	asker := owner
	members := map[*person]string{victim: "member"}
	switch role {
	case "anonymous":
		asker = w.stranger(t)
	case "outsider":
		asker = w.join(t, "Outsider", "UTC")
	case "admin":
		asker = w.admin(t)
	case "owner":
	default:
		asker = w.join(t, role, "UTC")
		members[asker] = role
	}
	s := scene{team: owner.crew(t, members), victim: victim.user.ID, email: fmt.Sprintf("new-%s@example.org", op())}
	invite := owner.do(t, "POST", "/teams/"+s.team+"/invites", object{}).want(t, http.StatusCreated)
	s.invite, s.token = invite.at(t, "id").(string), invite.at(t, "token").(string)
	of := asker
	if role == "anonymous" {
		of = owner
	}
	s.habit, s.session = of.habit(t, object{"kind": "count", "target_milli": 1000}), of.session.ID
	return asker, s
}

func (s scene) fill(method, path string) string {
	query := ""
	switch {
	case strings.HasSuffix(path, "/records"):
		query = "?from=2026-11-01&to=2026-12-01"
	case strings.HasSuffix(path, "/cache/inspect"):
		query = "?namespace=user&key=" + s.victim
	case strings.HasSuffix(path, "/records/{day}") && method == "delete":
		query = "?client_op_id=" + op()
	}
	id := s.team
	switch {
	case strings.Contains(path, "/habits/"):
		id = s.habit
	case strings.Contains(path, "/sessions/"):
		id = s.session
	}
	return strings.NewReplacer("{id}", id, "{day}", "2026-11-18", "{user_id}", s.victim, "{invite_id}", s.invite, "{area}", "memory").Replace(path) + query
}

// The role decides, and so does whom it is about.
func TestManagersDoNotRemoveEachOther(t *testing.T) {
	w := newWorld(t, sqlite(t))
	owner, manager, other, member := w.join(t, "O", "UTC"), w.join(t, "M", "UTC"), w.join(t, "N", "UTC"), w.join(t, "P", "UTC")
	team := owner.crew(t, map[*person]string{manager: "manager", other: "manager", member: "member"})
	remove := func(by, whom *person) reply {
		return by.do(t, "DELETE", "/teams/"+team+"/members/"+whom.user.ID, nil)
	}
	remove(manager, other).wantProblem(t, 403, "forbidden")
	remove(manager, owner).wantProblem(t, 403, "forbidden")
	remove(member, manager).wantProblem(t, 403, "forbidden")
	manager.do(t, "POST", "/teams/"+team+"/invites", object{"role": "manager"}).wantProblem(t, 403, "forbidden")
	remove(manager, member).want(t, 204)
	remove(other, other).want(t, 204)
	remove(owner, manager).want(t, 204)
}
