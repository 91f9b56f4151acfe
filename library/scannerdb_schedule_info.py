#!/usr/bin/python
# Copyright: the scannerdb contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say when scheduled jobs run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: scannerdb_schedule_info
short_description: Say when scheduled jobs run
version_added: "0.3.0"
description:
  - Checks a schedule and gives each of its jobs in the words of cron, of systemd and of iCalendar (which AWX takes).
  - Reads and writes nothing. Only the time zone's rules come from the machine.
extends_documentation_fragment:
  - scannerdb.schedule_info
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Work out when the jobs run
  scannerdb_schedule_info:
    schedule:
      - {name: weekly, profile: weekly, hour: 4, minute: 0, weekday: sunday, log: cron_maintenance.log}
    timezone: Europe/Berlin
  register: schedule
"""

RETURN = r"""
jobs:
  description: The jobs, in the order of the schedule.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The job's name.
      type: str
    profile:
      description: Profile of the maintenance.
      type: str
    playbook:
      description: The playbook that it runs.
      type: str
    log:
      description: Name of its log.
      type: str
    enabled:
      description: Whether it is switched on.
      type: bool
    cron:
      description: The five fields of cron.
      type: str
      sample: 0 4 * * 0
    calendar:
      description: The same for OnCalendar of systemd.
      type: str
      sample: Sun *-*-* 04:00:00
    rrule:
      description: The same for iCalendar.
      type: str
      sample: FREQ=WEEKLY;BYDAY=SU;INTERVAL=1;BYHOUR=4;BYMINUTE=0;BYSECOND=0
    next_due:
      description: When it is due next, UTC; empty for one that is switched off.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.scannerdb.answer import run_module
from ansible.module_utils.scannerdb.jobs.schedule import schedule_info
from ansible.module_utils.scannerdb.option import argument_spec, values_of
from ansible.module_utils.scannerdb.schedule.options import ScheduleInfoOptions


def main() -> None:
    """Read the options, work out the moments, answer."""
    module = AnsibleModule(argument_spec=argument_spec(ScheduleInfoOptions), supports_check_mode=True)
    run_module(module, lambda: schedule_info(**values_of(ScheduleInfoOptions, module.params)))


if __name__ == "__main__":
    main()
