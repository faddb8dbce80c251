import { useMutation } from '@tanstack/react-query'
import { type FormEvent, type ReactNode, useState } from 'react'
import { signIn } from '@/api/me'
import { explain, fieldProblem, Problem } from '@/api/problem'
import type { User } from '@/api/types'
import { Button } from '@/ui/button'
import { FormError, TextField } from '@/ui/field'
import { emailFault } from './check'
import { AuthFrame } from './frame'

/** Signs a person in. */
export function SignInPage({ onSignedIn, toRegister }: { onSignedIn: (user: User) => void; toRegister: ReactNode }) {
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const [tried, setTried] = useState(false)
  const go = useMutation({ mutationFn: signIn, onSuccess: onSignedIn })
  const wrong = {
    email: tried ? emailFault(email) : undefined,
    password: tried && password === '' ? 'Enter your password.' : undefined,
  }
  const submit = (e: FormEvent) => {
    e.preventDefault()
    setTried(true)
    if (!emailFault(email) && password !== '') go.mutate({ email: email.trim(), password })
  }
  return (
    <AuthFrame title="Welcome back">
      <form onSubmit={submit} noValidate className="grid gap-5">
        {go.isError && (
          <FormError>{isWrong(go.error) ? 'E-mail address or password is wrong. Check both and try again.' : explain(go.error)}</FormError>
        )}
        <TextField
          label="E-mail address"
          type="email"
          autoComplete="username"
          value={email}
          onChange={(e) => setEmail(e.target.value)}
          error={wrong.email ?? fieldProblem(go.error, 'email')}
        />
        <TextField
          label="Password"
          type="password"
          autoComplete="current-password"
          value={password}
          onChange={(e) => setPassword(e.target.value)}
          error={wrong.password ?? fieldProblem(go.error, 'password')}
        />
        <Button look="primary" size="lg" type="submit" busy={go.isPending}>
          Sign in
        </Button>
      </form>
      <p className="text-[0.9375rem] text-ink-2">New here? {toRegister}</p>
    </AuthFrame>
  )
}

function isWrong(error: Error): boolean {
  return error instanceof Problem && error.status === 401
}
