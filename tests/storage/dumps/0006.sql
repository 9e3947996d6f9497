BEGIN TRANSACTION;
CREATE TABLE access_tokens (
	token_id VARCHAR(12) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	client_ids TEXT, 
	roles TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT, 
	revoked_ms BIGINT, 
	is_local BOOLEAN NOT NULL, 
	PRIMARY KEY (token_id)
);
INSERT INTO "access_tokens" VALUES('d6962d2984b2','phone','4136f4f945132a28e32b131c85690a44e706cf000f2910b6bec41de45340c04a','["zoe"]','["user"]',1796081284555,NULL,NULL,0);
CREATE TABLE acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	stream VARCHAR(256) NOT NULL, 
	epoch VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, stream)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0006');
CREATE TABLE assists (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	conversation VARCHAR(64), 
	turn BIGINT, 
	intent VARCHAR(16), 
	restart TEXT, 
	started_ms BIGINT NOT NULL, 
	PRIMARY KEY (stream)
);
CREATE TABLE board_limits (
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	most INTEGER NOT NULL, 
	PRIMARY KEY (client_id, project, status)
);
CREATE TABLE client_logs (
	client_id VARCHAR(64) NOT NULL, 
	epoch VARCHAR(32) NOT NULL, 
	head BIGINT NOT NULL, 
	PRIMARY KEY (client_id)
);
INSERT INTO "client_logs" VALUES('','80a01ea510b5951f7610aac35809092a',0);
INSERT INTO "client_logs" VALUES('zoe','38f8bfb94ab1b949',11);
CREATE TABLE conversations (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	deleted_ms BIGINT, 
	last_turn BIGINT NOT NULL, 
	first_turn BIGINT NOT NULL, 
	window_start BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	running_command VARCHAR(64), 
	running_stream VARCHAR(256), 
	PRIMARY KEY (client_id, name)
);
INSERT INTO "conversations" VALUES('zoe','tour',1796081271714,1796081271960,NULL,4,1,1,34,NULL,NULL);
CREATE TABLE events (
	client_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	type VARCHAR(64) NOT NULL, 
	channel VARCHAR(32) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	data TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	PRIMARY KEY (client_id, seq)
);
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796081271194,'{"event_id":"a67881df-2d7b-4cda-83bc-48b7d78b3e86","channel":"tasks","priority":"medium","task":{"id":"2723793d-78f7-492e-9e32-d2ddb6679a37","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:27:51.186Z","updated":"2026-11-30T23:27:51.186Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796081271194,'{"event_id":"12aed3f4-67e0-45d0-b85b-2ac588ff1e3f","channel":"notifications","priority":"low","notification":{"notification_id":"4ea4f9aa-425d-49ac-ab4c-e36e4cc70b6d","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"2723793d-78f7-492e-9e32-d2ddb6679a37","status":"todo"},"created_at":"2026-11-30T23:27:51.269Z"}}',380);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796081271450,'{"event_id":"f95f7a99-d53e-4190-a24f-423218570012","channel":"tasks","priority":"medium","task":{"id":"63b0fc24-05cd-44c5-88dc-77c70b581445","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:27:51.448Z","updated":"2026-11-30T23:27:51.448Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796081271450,'{"event_id":"d20cc2bf-8906-4594-a5c5-6ac1ae54c1d3","channel":"notifications","priority":"low","notification":{"notification_id":"a86f4fc1-e868-46e0-b89e-2aa36f58f09b","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"todo"},"created_at":"2026-11-30T23:27:51.451Z"}}',385);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796081271509,'{"event_id":"e1227f8c-40b8-4749-bd04-9ed36fc338b9","channel":"tasks","priority":"medium","task":{"id":"63b0fc24-05cd-44c5-88dc-77c70b581445","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-11-30T23:27:51.448Z","updated":"2026-11-30T23:27:51.499Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796081271509,'{"event_id":"ae2ab597-44d8-44f5-9eb4-4bc0790b7493","channel":"notifications","priority":"low","notification":{"notification_id":"e3349f3d-bedb-4433-b6f4-a847cacef5a3","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"in_progress"},"created_at":"2026-11-30T23:27:51.548Z"}}',398);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796081271608,'{"event_id":"5542ca8f-b7e4-4357-a4da-f2e0cf83775e","channel":"tasks","priority":"medium","task":{"id":"c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-11-30T23:27:51.600Z","updated":"2026-11-30T23:27:51.600Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796081271608,'{"event_id":"1c506c7c-d445-45ca-a088-c3cb0a85b3c3","channel":"notifications","priority":"low","notification":{"notification_id":"4b399e44-ae08-488f-a4ae-4d3b0b60881a","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6","status":"todo"},"created_at":"2026-11-30T23:27:51.610Z"}}',377);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796081271780,'{"event_id":"ca5e4a10-81ae-4ab7-bc35-c7b4128d3116","channel":"ai","priority":"medium","command":"generate","id":"ai-438d7280458b19f7ede2e729","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796081271959,'{"event_id":"bf7464c7-bfb1-475d-bedf-b66ef3dc923b","channel":"ai","priority":"medium","command":"generate","id":"ai-56bc17f6274c1235541ea993","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796081272012,'{"event_id":"ab616fd2-b4dd-4e49-b0fb-500d11cba264","channel":"notifications","priority":"medium","notification":{"notification_id":"53d4c122-e57d-4d8a-ae13-c759a7cc559c","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-11-30T23:27:52.012Z"}}',307);
CREATE TABLE generations (
	stream VARCHAR(256) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64), 
	command_id VARCHAR(64), 
	digest VARCHAR(64), 
	domain VARCHAR(256) NOT NULL, 
	request TEXT NOT NULL, 
	prompt_tokens BIGINT NOT NULL, 
	started_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	text TEXT, 
	last TEXT, 
	PRIMARY KEY (stream)
);
CREATE TABLE idempotency (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	command_id VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	outcome TEXT NOT NULL, 
	head BIGINT, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id, command_id)
);
CREATE TABLE notification_acknowledgements (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notification_clients (
	client_id VARCHAR(64) NOT NULL, 
	last_number BIGINT NOT NULL, 
	preferences TEXT, 
	PRIMARY KEY (client_id)
);
INSERT INTO "notification_clients" VALUES('zoe',5,NULL);
CREATE TABLE notification_deliveries (
	notification_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason TEXT, 
	attempts INTEGER NOT NULL, 
	due_ms BIGINT, 
	released_ms BIGINT, 
	sent_ms BIGINT, 
	delivered_ms BIGINT, 
	opened_ms BIGINT, 
	digest_id VARCHAR(64), 
	PRIMARY KEY (notification_id, channel, device_id)
);
INSERT INTO "notification_deliveries" VALUES('4ea4f9aa-425d-49ac-ab4c-e36e4cc70b6d','in_app','','zoe',1,'sent',NULL,0,NULL,1796081271269,1796081271269,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('a86f4fc1-e868-46e0-b89e-2aa36f58f09b','in_app','','zoe',2,'sent',NULL,0,NULL,1796081271451,1796081271451,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('e3349f3d-bedb-4433-b6f4-a847cacef5a3','in_app','','zoe',3,'sent',NULL,0,NULL,1796081271548,1796081271548,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('4b399e44-ae08-488f-a4ae-4d3b0b60881a','in_app','','zoe',4,'sent',NULL,0,NULL,1796081271610,1796081271610,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('53d4c122-e57d-4d8a-ae13-c759a7cc559c','in_app','','zoe',5,'sent',NULL,0,NULL,1796081272012,1796081272012,NULL,NULL,NULL);
CREATE TABLE notification_devices (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channel VARCHAR(16) NOT NULL, 
	address TEXT NOT NULL, 
	secret TEXT NOT NULL, 
	environment VARCHAR(16), 
	topic VARCHAR(255), 
	app_version VARCHAR(64), 
	device_model VARCHAR(128), 
	timezone VARCHAR(64), 
	locale VARCHAR(32), 
	preferences TEXT, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	due_ms BIGINT, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE notifications (
	notification_id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	priority VARCHAR(16) NOT NULL, 
	title TEXT NOT NULL, 
	body TEXT NOT NULL, 
	fields TEXT NOT NULL, 
	data TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	read_ms BIGINT, 
	is_digest BOOLEAN NOT NULL, 
	PRIMARY KEY (notification_id)
);
INSERT INTO "notifications" VALUES('4ea4f9aa-425d-49ac-ab4c-e36e4cc70b6d','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"2723793d-78f7-492e-9e32-d2ddb6679a37","status":"todo"}','{"task_id":"2723793d-78f7-492e-9e32-d2ddb6679a37","status":"todo"}',1796081271269,NULL,0);
INSERT INTO "notifications" VALUES('a86f4fc1-e868-46e0-b89e-2aa36f58f09b','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"todo"}','{"task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"todo"}',1796081271451,NULL,0);
INSERT INTO "notifications" VALUES('e3349f3d-bedb-4433-b6f4-a847cacef5a3','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"in_progress"}','{"task_id":"63b0fc24-05cd-44c5-88dc-77c70b581445","status":"in_progress"}',1796081271548,NULL,0);
INSERT INTO "notifications" VALUES('4b399e44-ae08-488f-a4ae-4d3b0b60881a','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6","status":"todo"}','{"task_id":"c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6","status":"todo"}',1796081271610,NULL,0);
INSERT INTO "notifications" VALUES('53d4c122-e57d-4d8a-ae13-c759a7cc559c','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796081272012,NULL,0);
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_dependencies (
	task_id VARCHAR(36) NOT NULL, 
	depends_on VARCHAR(36) NOT NULL, 
	place INTEGER NOT NULL, 
	PRIMARY KEY (task_id, depends_on), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE, 
	FOREIGN KEY(depends_on) REFERENCES tasks (id)
);
CREATE TABLE task_history (
	number INTEGER NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(36) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	version BIGINT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	time_ms BIGINT NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	from_status VARCHAR(16), 
	to_status VARCHAR(16), 
	stay_ms BIGINT, 
	cycle_ms BIGINT, 
	changes TEXT NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "task_history" VALUES(1,'zoe','2723793d-78f7-492e-9e32-d2ddb6679a37','default',1,'created',1796081271186,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','63b0fc24-05cd-44c5-88dc-77c70b581445','default',1,'created',1796081271448,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','63b0fc24-05cd-44c5-88dc-77c70b581445','default',2,'moved',1796081271499,':rest','todo','in_progress',51,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6','default',1,'created',1796081271600,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('2723793d-78f7-492e-9e32-d2ddb6679a37','home');
INSERT INTO "task_tags" VALUES('2723793d-78f7-492e-9e32-d2ddb6679a37','n0');
INSERT INTO "task_tags" VALUES('63b0fc24-05cd-44c5-88dc-77c70b581445','home');
INSERT INTO "task_tags" VALUES('63b0fc24-05cd-44c5-88dc-77c70b581445','n1');
INSERT INTO "task_tags" VALUES('c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6','home');
INSERT INTO "task_tags" VALUES('c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6','n2');
CREATE TABLE tasks (
	id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	project VARCHAR(128) NOT NULL, 
	title VARCHAR(255) NOT NULL, 
	description TEXT, 
	status VARCHAR(16) NOT NULL, 
	priority INTEGER NOT NULL, 
	position VARCHAR(64) NOT NULL, 
	tags TEXT NOT NULL, 
	attachments TEXT NOT NULL, 
	agent_decision TEXT, 
	assignee VARCHAR(128), 
	estimate_hours FLOAT, 
	actual_hours FLOAT, 
	due_ms BIGINT, 
	confidence FLOAT, 
	ai_analysis TEXT, 
	ai_analysis_status VARCHAR(16) NOT NULL, 
	ai_analysis_confidence FLOAT, 
	version BIGINT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	entered_ms BIGINT NOT NULL, 
	started_ms BIGINT, 
	due_told_ms BIGINT, 
	search_text TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "tasks" VALUES('2723793d-78f7-492e-9e32-d2ddb6679a37','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081271186,1796081271186,1796081271186,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('63b0fc24-05cd-44c5-88dc-77c70b581445','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796081271448,1796081271499,1796081271499,1796081271499,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('c64bf2de-8a15-4362-9fc0-4e1a7b0ab3e6','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796081271600,1796081271600,1796081271600,NULL,NULL,'review `a<b>`
line one.
line two.
home
n2');
CREATE TABLE turns (
	client_id VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	number BIGINT NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	content TEXT NOT NULL, 
	prompt TEXT, 
	intent VARCHAR(16), 
	is_partial BOOLEAN NOT NULL, 
	bytes INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id, name, number)
);
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796081271719);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796081271797);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796081271920);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796081271960);
CREATE INDEX events_by_time ON events (time_ms);
CREATE INDEX idempotency_by_time ON idempotency (time_ms);
CREATE INDEX generations_by_end ON generations (ended_ms);
CREATE INDEX acknowledgements_by_time ON acknowledgements (time_ms);
CREATE INDEX tasks_by_place ON tasks (client_id, project, status, position, id);
CREATE INDEX tasks_by_creation ON tasks (client_id, created_ms, id);
CREATE INDEX tasks_by_update ON tasks (client_id, updated_ms, id);
CREATE INDEX tasks_by_due ON tasks (due_ms);
CREATE INDEX tasks_by_analysis ON tasks (ai_analysis_status, created_ms);
CREATE INDEX dependents ON task_dependencies (depends_on);
CREATE INDEX history_of_task ON task_history (client_id, task_id, number);
CREATE INDEX history_of_columns ON task_history (client_id, to_status, time_ms);
CREATE UNIQUE INDEX notifications_by_client ON notifications (client_id, number);
CREATE INDEX notifications_by_time ON notifications (created_ms);
CREATE INDEX notification_devices_due ON notification_devices (channel, due_ms);
CREATE INDEX notification_deliveries_lane ON notification_deliveries (client_id, device_id, channel, state, number);
CREATE INDEX notification_deliveries_due ON notification_deliveries (state, due_ms);
CREATE INDEX notification_deliveries_rate ON notification_deliveries (client_id, device_id, channel, released_ms);
CREATE INDEX assists_by_client ON assists (client_id);
COMMIT;
