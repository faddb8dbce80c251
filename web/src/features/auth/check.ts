/** What is wrong with an e-mail address; the server has the last word. */
export function emailFault(email: string): string | undefined {
  const it = email.trim()
  if (it === '') return 'Enter your e-mail address.'
  return /^[^\s@]+@[^\s@]+$/.test(it) ? undefined : 'This is not an e-mail address. It looks like mira@example.org.'
}

/** What is wrong with a new password. */
export function passwordFault(password: string): string | undefined {
  const missing = 10 - [...password].length
  if (missing <= 0) return undefined
  return missing === 10
    ? 'Choose a password of at least ten characters.'
    : `${missing} more ${missing === 1 ? 'character' : 'characters'}, please: at least ten.`
}
