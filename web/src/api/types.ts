import type { components } from './schema'

// The API's own shapes, under the names the page uses for them. They are
// generated from its OpenAPI document with `npm run gen`.

type Schemas = components['schemas']

export type Activity = Schemas['Activity']
export type Dashboard = Schemas['Week']
export type DashboardHabit = Schemas['WeekHabit']
export type Habit = Schemas['Habit']
export type HabitChange = Schemas['HabitChange']
export type HabitRecord = Schemas['Record']
export type Health = Schemas['Health']
export type Invite = Schemas['Invite']
export type InviteInfo = Schemas['InviteInfo']
export type Member = Schemas['Member']
export type Membership = Schemas['TeamSummary']
export type NewHabit = Schemas['HabitDraft']
export type NewInvite = Schemas['NewInvite']
export type Progress = Schemas['RecordResult']
export type Role = Member['role']
export type Schedule = Schemas['HabitSchedule']
export type Session = Schemas['Session']
export type Streak = Schemas['Streak']
export type TeamDetail = Schemas['TeamDetail']
export type User = Schemas['User']
