import { Check } from 'lucide-react'
import { RadioGroup } from 'radix-ui'
import { habitHues, habitIcons } from '@/ui/habit-icon'

/** Picks the colour and the sign of a habit. */
export function LookPicker({
  color,
  icon,
  onChange,
}: {
  color: string
  icon: string
  onChange: (change: { color?: string; icon?: string }) => void
}) {
  return (
    <div className="grid gap-3">
      <RadioGroup.Root
        aria-label="Colour"
        value={color}
        onValueChange={(next) => onChange({ color: next })}
        className="grid grid-cols-8 justify-items-center sm:flex sm:gap-1"
      >
        {habitHues.map((hue) => (
          <RadioGroup.Item
            key={hue}
            value={hue}
            aria-label={hue}
            data-hue={hue}
            className="group grid h-11 w-full place-items-center rounded-full sm:w-11"
          >
            <span className="grid size-8 place-items-center rounded-full bg-hue text-surface ring-hue ring-offset-2 ring-offset-raised group-data-[state=checked]:ring-2">
              <Check aria-hidden="true" className="hidden size-4 group-data-[state=checked]:block" strokeWidth={3} />
            </span>
          </RadioGroup.Item>
        ))}
      </RadioGroup.Root>
      <RadioGroup.Root
        aria-label="Sign"
        value={icon}
        onValueChange={(next) => onChange({ icon: next })}
        className="grid grid-cols-[repeat(auto-fill,minmax(2.75rem,1fr))] gap-1"
      >
        {Object.entries(habitIcons).map(([name, { icon: Icon, label }]) => (
          <RadioGroup.Item
            key={name}
            value={name}
            aria-label={label}
            title={label}
            className="grid h-11 place-items-center rounded-xl text-ink-2 hover:bg-sunken data-[state=checked]:bg-brand-soft data-[state=checked]:text-brand data-[state=checked]:ring-2 data-[state=checked]:ring-brand"
          >
            <Icon aria-hidden="true" className="size-5" />
          </RadioGroup.Item>
        ))}
      </RadioGroup.Root>
    </div>
  )
}
