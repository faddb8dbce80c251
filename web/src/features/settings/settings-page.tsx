import { useQuery } from '@tanstack/react-query'
import { Monitor, Moon, Sun } from 'lucide-react'
import type { ReactNode } from 'react'
import { healthQuery } from '@/api/health'
import type { User } from '@/api/types'
import { Button } from '@/ui/button'
import { Segmented } from '@/ui/choice'
import { Card, PageTitle } from '@/ui/surface'
import { PasswordForm } from './password-form'
import { ProfileForm } from './profile-form'
import { SessionList } from './session-list'

export type ThemeChoice = 'system' | 'light' | 'dark'

/** What a person can set for themselves. */
export function SettingsPage({
  me,
  theme,
  onTheme,
  onSignOut,
  signingOut,
}: {
  me: User
  theme: ThemeChoice
  onTheme: (theme: ThemeChoice) => void
  onSignOut: () => void
  signingOut: boolean
}) {
  const health = useQuery(healthQuery)
  return (
    <div className="mx-auto max-w-[84rem] px-4 py-6 sm:px-8 sm:py-10 lg:px-12">
      <div className="grid max-w-3xl gap-6">
        <PageTitle>Settings</PageTitle>
        <Section title="You and your days" hint={`Signed in as ${me.email}`}>
          {/* Another version came from elsewhere: show it. */}
          <ProfileForm key={me.version} me={me} />
        </Section>
        <Section title="Appearance">
          <Segmented
            label="Appearance"
            value={theme}
            onChange={onTheme}
            options={[
              { value: 'system', label: 'System', icon: <Monitor aria-hidden="true" className="size-4" /> },
              { value: 'light', label: 'Light', icon: <Sun aria-hidden="true" className="size-4" /> },
              { value: 'dark', label: 'Dark', icon: <Moon aria-hidden="true" className="size-4" /> },
            ]}
          />
        </Section>
        <Section title="Where you are signed in" hint="End what you do not know, and change your password then.">
          <SessionList />
        </Section>
        <Section title="Password">
          <PasswordForm />
        </Section>
        {health.data?.traces && (
          <Section title="Traces" hint="Every tick can be followed from this page to your team-mates’ screens.">
            <a href="/traces" className="inline-flex min-h-11 items-center font-semibold text-brand underline-offset-4 hover:underline">
              Open the trace viewer
            </a>
          </Section>
        )}
        <div className="flex justify-start pt-2 pb-6">
          <Button size="lg" onClick={onSignOut} busy={signingOut}>
            Sign out
          </Button>
        </div>
      </div>
    </div>
  )
}

function Section({ title, hint, children }: { title: string; hint?: string; children: ReactNode }) {
  return (
    <Card aria-label={title} className="grid gap-5 p-5 sm:p-7">
      <div className="grid gap-0.5">
        <h2 className="text-lg font-bold">{title}</h2>
        {hint && <p className="text-sm text-ink-3">{hint}</p>}
      </div>
      {children}
    </Card>
  )
}
