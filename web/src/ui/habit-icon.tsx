import {
  Apple,
  Bike,
  BookOpen,
  Brain,
  CircleCheck,
  CodeXml,
  Coffee,
  Droplet,
  Dumbbell,
  Footprints,
  Heart,
  Languages,
  Leaf,
  type LucideIcon,
  Moon,
  Music,
  PenLine,
  Phone,
  Sun,
} from 'lucide-react'
import { cx } from './cx'

/** The icons a habit can have, by the name that is stored. */
export const habitIcons: Readonly<Record<string, { icon: LucideIcon; label: string }>> = {
  check: { icon: CircleCheck, label: 'Check mark' },
  book: { icon: BookOpen, label: 'Book' },
  run: { icon: Footprints, label: 'Footprints' },
  water: { icon: Droplet, label: 'Drop of water' },
  strength: { icon: Dumbbell, label: 'Dumbbell' },
  mind: { icon: Brain, label: 'Mind' },
  write: { icon: PenLine, label: 'Pen' },
  sleep: { icon: Moon, label: 'Moon' },
  sun: { icon: Sun, label: 'Sun' },
  food: { icon: Apple, label: 'Apple' },
  bike: { icon: Bike, label: 'Bicycle' },
  music: { icon: Music, label: 'Music' },
  heart: { icon: Heart, label: 'Heart' },
  leaf: { icon: Leaf, label: 'Leaf' },
  code: { icon: CodeXml, label: 'Code' },
  language: { icon: Languages, label: 'Languages' },
  coffee: { icon: Coffee, label: 'Coffee' },
  call: { icon: Phone, label: 'Phone' },
}

/** The colours a habit can have, by the name that is stored. */
export const habitHues = ['teal', 'blue', 'violet', 'rose', 'coral', 'amber', 'green', 'slate'] as const

/** The colour to draw a habit in, whatever was stored. */
export function hueName(color: string): string {
  return habitHues.find((h) => h === color) ?? 'teal'
}

/** A habit's sign on its colour. The name stands next to it, so it is not read. */
export function HabitIcon({ icon, color, className }: { icon: string; color: string; className?: string }) {
  const Known = habitIcons[icon]?.icon
  return (
    <span
      aria-hidden="true"
      data-hue={hueName(color)}
      className={cx('inline-grid size-11 shrink-0 place-items-center rounded-2xl bg-hue-soft text-hue', className)}
    >
      {Known ? (
        <Known className="size-[46%]" strokeWidth={2.1} />
      ) : (
        <span className="text-lg leading-none">{[...icon].slice(0, 2).join('') || '•'}</span>
      )}
    </span>
  )
}
