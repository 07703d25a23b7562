import crabbox, { acquire, doctor, list, release, searchOffers, status, touch, version, VastLeaseError } from 'crabbox-vast'
import type { AcquireOptions, ExecResult, Lease, LeaseInfo, LeaseStatus, OfferList, VastLeaseErrorCode } from 'crabbox-vast'
import * as edge from 'crabbox-vast/edge'

const options: AcquireOptions = {
  gpuName: 'RTX 4090',
  maxDphTotal: 0.6,
  ttl: '90m',
  idleTimeout: 600,
  bootTimeout: '10m',
  sshTimeout: 90,
  profile: 'training',
  sshUser: 'root',
  envAllow: ['CI', 'WANDB_*'],
  allowRepositoryPolicy: false,
  instanceType: 'interruptible',
  onEvent: (event) => (event.type === 'phase' ? event.phase.toUpperCase() : event.type),
}

async function more(signal: crabbox.AbortSignalLike): Promise<void> {
  await using lease: Lease = await crabbox.open('trainer', { reclaim: true, signal })
  const result: crabbox.RunResult = await crabbox.run({ command: ['ls'], sync: { full: true }, stopAfter: 'always', maxCost: 5 })
  const bytes: Uint8Array = (await crabbox.run({ id: lease.id, script: 'a.sh', encoding: 'buffer' })).stdout
  for await (const { data } of crabbox.run({ command: { shell: 'ls' } })) data.trim()
  await using tunnel: crabbox.Tunnel = await lease.tunnel([8080, '0:80'])
  const address: string | undefined = tunnel.forwards[0]?.address
  await using shell: crabbox.Shell = await lease.shell({ columns: 80, rows: 24 })
  shell.stdin.write('exit\n')
  const code: number | null = (await shell.exit).exitCode
  const { summary, items } = await crabbox.cleanup({ dryRun: true })
  const outcome: crabbox.CleanupItem['outcome'] | undefined = items[0]?.outcome
  const cost: number | null = result.costDollars
  await crabbox.start('trainer')
  void [bytes, address, code, summary.destroyed, outcome, cost, (await crabbox.forget('x', { yes: true })).provedGone]
  void [await crabbox.adopt('1', { keep: true }), await crabbox.listClaims(), await crabbox.copy('a', 'x:b'), await lease.copyTo('a', 'b')]
  // @ts-expect-error not a policy
  await crabbox.run({ command: ['ls'], stopAfter: 'later' })
  // @ts-expect-error a run takes options alone
  await crabbox.run(['ls'])
  // @ts-expect-error a tunnel is made by tunnel()
  new crabbox.Tunnel()
}

async function use(): Promise<void> {
  await using lease: Lease = await acquire(options)
  const info: LeaseInfo = lease.toJSON()
  const id: string = lease.id
  const instance: string = info.instance

  const text: ExecResult = await lease.exec(['nvidia-smi'], { stdin: 'x', onStdout: (data) => data.trim() })
  const bytes: Uint8Array = (await lease.exec({ shell: 'cat x' }, { encoding: 'buffer', onStdout: (data) => data.byteLength })).stdout
  for await (const { stream, data } of lease.exec(['ls'])) {
    const which: 'stdout' | 'stderr' = stream
    const line: string = data
    void [which, line]
  }
  const { offers, refused }: OfferList = await searchOffers({ limit: 3 })
  const offer: string | undefined = offers[0]?.id
  await release(id, { action: 'stop' })
  const idle: number | null = (await lease.touch({ idleTimeout: '10m' })).idleTimeoutSeconds
  const whose: 'claimed' | 'unclaimed' | 'foreign' | undefined = (await list())[0]?.ownership
  await acquire({ instanceType: 'on-demand', releaseAction: 'delete', expose: [8080, '9090'] })
  await doctor({ id })
  void [idle, whose, refused]
  void [text.exitCode, text.signal, bytes, instance, offer, await list(), await status(id), await touch(id)]

  const { accruedDollars, claimed, keyPath }: LeaseStatus = await lease.status()
  const why: string | undefined = (await doctor()).error?.code
  void [accruedDollars, claimed, keyPath, why]

  // @ts-expect-error not a kind of rental
  await acquire({ instanceType: 'spot' })
  // @ts-expect-error ids are text
  await release(1234)
  // @ts-expect-error no such option
  await acquire({ gpuNames: 'RTX 4090' })
  // @ts-expect-error a command is words or { shell }
  lease.exec('ls')
  // @ts-expect-error a lease is made by acquire
  new crabbox.Lease()
}

function explain(error: unknown): string {
  if (!(error instanceof VastLeaseError)) return version
  const code: VastLeaseErrorCode = error.code
  // @ts-expect-error no such code
  if (code === 'no_such_code') return code
  return error.hint ?? code
}

const same: typeof crabbox.acquire = edge.acquire
void [use, more, explain, same, doctor]
