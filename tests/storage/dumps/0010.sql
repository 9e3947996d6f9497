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
INSERT INTO "access_tokens" VALUES('d6209cc70d3b','phone','71b7651fe01500c396360916ee343fceeef2c1b6da71c3a79e7a54d78e5a6385','["zoe"]','["user"]',1796115647844,NULL,NULL,0);
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
INSERT INTO "alembic_version" VALUES('0010');
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
INSERT INTO "client_logs" VALUES('','88eb519fff53f8ac48fff598fbcdad2c',0);
INSERT INTO "client_logs" VALUES('zoe','863cf6cd3cf26949',11);
CREATE TABLE conversation_items (
	conversation_id VARCHAR(64) NOT NULL, 
	position BIGINT NOT NULL, 
	id VARCHAR(256) NOT NULL, 
	item TEXT NOT NULL, 
	PRIMARY KEY (conversation_id, position)
);
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',1,'msg_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_0','{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Gr\u00fc\u00df dich"}], "id": "msg_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_0", "status": "completed"}');
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',2,'msg_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_1','{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Gr\u00fc\u00df dich"}], "id": "msg_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_1", "status": "completed"}');
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',3,'fc_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_2','{"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{\"at\": \"\ud83c\udf31\"}", "id": "fc_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_2"}');
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',4,'out_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_3','{"type": "function_call_output", "call_id": "c1", "output": "green", "id": "out_c73e43803b9ccc9b3e34023f89132166aa5f3501a9a80621_3"}');
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',5,'msg_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49_i0','{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 2"}], "id": "msg_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49_i0", "status": "completed"}');
INSERT INTO "conversation_items" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17',6,'msg_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49_0','{"id": "msg_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49_0", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "1 2", "annotations": [], "logprobs": []}]}');
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
INSERT INTO "conversations" VALUES('zoe','tour',1796115642378,1796115642615,NULL,4,1,1,34,NULL,NULL);
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
INSERT INTO "events" VALUES('zoe',1,'task_created','tasks','medium',1796115642114,'{"event_id":"397952b8-aa2a-4834-be37-ca2e20e5aae6","channel":"tasks","priority":"medium","task":{"id":"bebb2c0a-7296-461c-9b15-28e875829fae","client_id":"zoe","project":"default","title":"Water the plants","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000000","tags":["home","n0"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T09:00:42.104Z","updated":"2026-12-01T09:00:42.104Z"}}',517);
INSERT INTO "events" VALUES('zoe',2,'notification','notifications','low',1796115642114,'{"event_id":"82bcd7b8-b00a-424f-8a93-fe5209155516","channel":"notifications","priority":"low","notification":{"notification_id":"a79ccdde-0c02-4e87-b779-3e5412441057","kind":"task_created","priority":"low","title":"New task: Water the plants","body":"Status: todo","data":{"task_id":"bebb2c0a-7296-461c-9b15-28e875829fae","status":"todo"},"created_at":"2026-12-01T09:00:42.134Z","read_at":"2026-12-01T09:00:42.134Z"}}',417);
INSERT INTO "events" VALUES('zoe',3,'task_created','tasks','medium',1796115642202,'{"event_id":"9d266229-3777-4ecf-bc91-c4eacb263c39","channel":"tasks","priority":"medium","task":{"id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T09:00:42.196Z","updated":"2026-12-01T09:00:42.196Z"}}',522);
INSERT INTO "events" VALUES('zoe',4,'notification','notifications','low',1796115642202,'{"event_id":"63453607-3f1a-4f2f-8c2e-a40cf82610f3","channel":"notifications","priority":"low","notification":{"notification_id":"72288454-57fc-4a44-a83f-2b2d9001bdef","kind":"task_created","priority":"low","title":"New task: Grüße an Ömer 🌱","body":"Status: todo","data":{"task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"todo"},"created_at":"2026-12-01T09:00:42.204Z","read_at":"2026-12-01T09:00:42.204Z"}}',422);
INSERT INTO "events" VALUES('zoe',5,'task_moved','tasks','medium',1796115642241,'{"event_id":"72ef871d-8661-47f4-bd40-76c461691224","channel":"tasks","priority":"medium","task":{"id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","client_id":"zoe","project":"default","title":"Grüße an Ömer 🌱","description":"Line one.\nLine two.","status":"in_progress","priority":"medium","position":"V0000000","tags":["home","n1"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":2,"created":"2026-12-01T09:00:42.196Z","updated":"2026-12-01T09:00:42.238Z"}}',529);
INSERT INTO "events" VALUES('zoe',6,'notification','notifications','low',1796115642241,'{"event_id":"ece1d869-9584-4f5c-ad29-3d85f39fb0cd","channel":"notifications","priority":"low","notification":{"notification_id":"3fd5ebec-07fa-4063-a6d2-08f9183608e2","kind":"task_moved","priority":"low","title":"Task moved: Grüße an Ömer 🌱","body":"Now in in_progress","data":{"task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"in_progress"},"created_at":"2026-12-01T09:00:42.260Z","read_at":"2026-12-01T09:00:42.260Z"}}',435);
INSERT INTO "events" VALUES('zoe',7,'task_created','tasks','medium',1796115642308,'{"event_id":"c8b91b4c-45bb-442f-96d9-7782137b4fc5","channel":"tasks","priority":"medium","task":{"id":"d1cc621a-b540-4afe-aff5-898801978c47","client_id":"zoe","project":"default","title":"Review `a<b>`","description":"Line one.\nLine two.","status":"todo","priority":"medium","position":"V0000001","tags":["home","n2"],"dependencies":[],"attachments":[],"ai_analysis_status":"none","is_blocked":false,"requires_approval":false,"version":1,"created":"2026-12-01T09:00:42.306Z","updated":"2026-12-01T09:00:42.306Z"}}',514);
INSERT INTO "events" VALUES('zoe',8,'notification','notifications','low',1796115642308,'{"event_id":"c32606a5-e6e3-4f91-b606-a260dbf64556","channel":"notifications","priority":"low","notification":{"notification_id":"99fb00f0-e36e-4f97-bff4-982e28f94b8b","kind":"task_created","priority":"low","title":"New task: Review `a<b>`","body":"Status: todo","data":{"task_id":"d1cc621a-b540-4afe-aff5-898801978c47","status":"todo"},"created_at":"2026-12-01T09:00:42.311Z","read_at":"2026-12-01T09:00:42.311Z"}}',414);
INSERT INTO "events" VALUES('zoe',9,'ai_response','ai','medium',1796115642421,'{"event_id":"73e727e8-0c4c-421a-8a06-0c5794886bbb","channel":"ai","priority":"medium","command":"generate","id":"ai-236c06d3b6a765e4ee6f84d2","analysis":"1 2 3","conversation":"tour"}',183);
INSERT INTO "events" VALUES('zoe',10,'ai_response','ai','medium',1796115642615,'{"event_id":"47ec5661-5994-4e67-858f-b312ab4d75ca","channel":"ai","priority":"medium","command":"generate","id":"ai-684ee85f31e4b5868fc9183e","analysis":"1 2 3 4 5","conversation":"tour"}',187);
INSERT INTO "events" VALUES('zoe',11,'notification','notifications','medium',1796115642657,'{"event_id":"fa9fa1c9-db4a-4104-b561-39a71a692682","channel":"notifications","priority":"medium","notification":{"notification_id":"abd46d7d-cbbf-455c-8a54-8b968facef9f","kind":"message","priority":"medium","title":"Tea is ready","body":"Käsekuchen, too","data":{},"created_at":"2026-12-01T09:00:42.657Z"}}',307);
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
INSERT INTO "notification_deliveries" VALUES('a79ccdde-0c02-4e87-b779-3e5412441057','in_app','','zoe',1,'sent',NULL,0,NULL,1796115642134,1796115642134,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('72288454-57fc-4a44-a83f-2b2d9001bdef','in_app','','zoe',2,'sent',NULL,0,NULL,1796115642204,1796115642204,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('3fd5ebec-07fa-4063-a6d2-08f9183608e2','in_app','','zoe',3,'sent',NULL,0,NULL,1796115642260,1796115642260,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('99fb00f0-e36e-4f97-bff4-982e28f94b8b','in_app','','zoe',4,'sent',NULL,0,NULL,1796115642311,1796115642311,NULL,NULL,NULL);
INSERT INTO "notification_deliveries" VALUES('abd46d7d-cbbf-455c-8a54-8b968facef9f','in_app','','zoe',5,'sent',NULL,0,NULL,1796115642657,1796115642657,NULL,NULL,NULL);
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
INSERT INTO "notifications" VALUES('a79ccdde-0c02-4e87-b779-3e5412441057','zoe',1,'task_created','low','New task: Water the plants','Status: todo','{"title":"Water the plants","task_id":"bebb2c0a-7296-461c-9b15-28e875829fae","status":"todo"}','{"task_id":"bebb2c0a-7296-461c-9b15-28e875829fae","status":"todo"}',1796115642134,1796115642134,0);
INSERT INTO "notifications" VALUES('72288454-57fc-4a44-a83f-2b2d9001bdef','zoe',2,'task_created','low','New task: Grüße an Ömer 🌱','Status: todo','{"title":"Grüße an Ömer 🌱","task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"todo"}','{"task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"todo"}',1796115642204,1796115642204,0);
INSERT INTO "notifications" VALUES('3fd5ebec-07fa-4063-a6d2-08f9183608e2','zoe',3,'task_moved','low','Task moved: Grüße an Ömer 🌱','Now in in_progress','{"title":"Grüße an Ömer 🌱","task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"in_progress"}','{"task_id":"d8df18c5-bb3a-4365-a970-6d01ddfc7292","status":"in_progress"}',1796115642260,1796115642260,0);
INSERT INTO "notifications" VALUES('99fb00f0-e36e-4f97-bff4-982e28f94b8b','zoe',4,'task_created','low','New task: Review `a<b>`','Status: todo','{"title":"Review `a<b>`","task_id":"d1cc621a-b540-4afe-aff5-898801978c47","status":"todo"}','{"task_id":"d1cc621a-b540-4afe-aff5-898801978c47","status":"todo"}',1796115642311,1796115642311,0);
INSERT INTO "notifications" VALUES('abd46d7d-cbbf-455c-8a54-8b968facef9f','zoe',5,'message','medium','Tea is ready','Käsekuchen, too','{"title":"Tea is ready","body":"Käsekuchen, too"}','{}',1796115642657,NULL,0);
CREATE TABLE response_conversations (
	id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	metadata TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	last_position BIGINT NOT NULL, 
	items BIGINT NOT NULL, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "response_conversations" VALUES('conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17','zoe',1796115643779,'{"topic": "B\u00e4ume"}',2,6,6,1078);
INSERT INTO "response_conversations" VALUES('conv_6470b6f360a8eda32a71ab3ca7d53025bd13a394b6b4dd74','zoe',1796115643876,'{}',0,0,0,0);
CREATE TABLE responses (
	id VARCHAR(64) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	domain VARCHAR(256) NOT NULL, 
	previous_id VARCHAR(64), 
	created_ms BIGINT NOT NULL, 
	ended_ms BIGINT, 
	response TEXT NOT NULL, 
	restart TEXT, 
	ending TEXT, 
	text TEXT, 
	logprobs TEXT, 
	bytes BIGINT NOT NULL, conversation_id VARCHAR(64), 
	PRIMARY KEY (id)
);
INSERT INTO "responses" VALUES('resp_ca49c4e257ff56dc691188a100063c0552938a7896b5fa17','zoe','',NULL,1796115643627,1796115643656,'{"id": "resp_ca49c4e257ff56dc691188a100063c0552938a7896b5fa17", "created_ms": 1796115643627, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 4"}], "id": "msg_ca49c4e257ff56dc691188a100063c0552938a7896b5fa17_i0", "status": "completed"}], "previous_id": null, "conversation_id": null, "conversation_version": 0, "notifies": false, "title": "count to 4"}',NULL,'{"status": "completed", "ended_ms": 1796115643656, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 7, "reasoning_tokens": 0}','"1 2 3 4"',NULL,1091,NULL);
INSERT INTO "responses" VALUES('resp_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49','zoe','',NULL,1796115643841,1796115643864,'{"id": "resp_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49", "created_ms": 1796115643841, "model": "mock", "head": {"echo": {"background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "model": "mock", "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null, "service_tier": "default", "store": true, "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null, "metadata": {}, "conversation": {"id": "conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17"}}, "tool_call_format": "TAGGED", "callable_schemas": {}, "reasoning_marks": "THINK", "begins_open": false, "is_forced": false, "has_logprobs": false}, "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "count to 2"}], "id": "msg_8875ebfa335863aed84ac3fa8bafe28133ce46dc14e77c49_i0", "status": "completed"}], "previous_id": null, "conversation_id": "conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17", "conversation_version": 1, "notifies": false, "title": "count to 2"}',NULL,'{"status": "completed", "ended_ms": 1796115643864, "reason": null, "code": null, "message": null, "prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 3, "reasoning_tokens": 0}','"1 2"',NULL,1219,'conv_46b51ce84726669157fbd5c5a20358d174cc66d215156f17');
CREATE TABLE subscriptions (
	client_id VARCHAR(64) NOT NULL, 
	device_id VARCHAR(64) NOT NULL, 
	channels TEXT, 
	min_priority VARCHAR(16) NOT NULL, 
	max_events_per_second FLOAT, 
	batch_ms INTEGER NOT NULL, 
	PRIMARY KEY (client_id, device_id)
);
CREATE TABLE task_claims (
	task_id VARCHAR(36) NOT NULL, 
	client_id VARCHAR(64) NOT NULL, 
	lease VARCHAR(36) NOT NULL, 
	holder VARCHAR(128) NOT NULL, 
	until_ms BIGINT NOT NULL, 
	from_status VARCHAR(16) NOT NULL, 
	from_assignee VARCHAR(128), 
	PRIMARY KEY (task_id), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
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
INSERT INTO "task_history" VALUES(1,'zoe','bebb2c0a-7296-461c-9b15-28e875829fae','default',1,'created',1796115642104,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Water the plants"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000000"},"tags":{"after":["home","n0"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(2,'zoe','d8df18c5-bb3a-4365-a970-6d01ddfc7292','default',1,'created',1796115642196,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Grüße an Ömer 🌱"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n1"]},"ai_analysis_status":{"after":"none"}}');
INSERT INTO "task_history" VALUES(3,'zoe','d8df18c5-bb3a-4365-a970-6d01ddfc7292','default',2,'moved',1796115642238,':rest','todo','in_progress',42,NULL,'{"status":{"before":"todo","after":"in_progress"},"position":{"before":"V0000001","after":"V0000000"}}');
INSERT INTO "task_history" VALUES(4,'zoe','d1cc621a-b540-4afe-aff5-898801978c47','default',1,'created',1796115642306,':rest',NULL,'todo',NULL,NULL,'{"project":{"after":"default"},"title":{"after":"Review `a<b>`"},"description":{"after":"Line one.\nLine two."},"status":{"after":"todo"},"priority":{"after":"medium"},"position":{"after":"V0000001"},"tags":{"after":["home","n2"]},"ai_analysis_status":{"after":"none"}}');
CREATE TABLE task_tags (
	task_id VARCHAR(36) NOT NULL, 
	tag VARCHAR(64) NOT NULL, 
	PRIMARY KEY (task_id, tag), 
	FOREIGN KEY(task_id) REFERENCES tasks (id) ON DELETE CASCADE
);
INSERT INTO "task_tags" VALUES('bebb2c0a-7296-461c-9b15-28e875829fae','home');
INSERT INTO "task_tags" VALUES('bebb2c0a-7296-461c-9b15-28e875829fae','n0');
INSERT INTO "task_tags" VALUES('d8df18c5-bb3a-4365-a970-6d01ddfc7292','home');
INSERT INTO "task_tags" VALUES('d8df18c5-bb3a-4365-a970-6d01ddfc7292','n1');
INSERT INTO "task_tags" VALUES('d1cc621a-b540-4afe-aff5-898801978c47','home');
INSERT INTO "task_tags" VALUES('d1cc621a-b540-4afe-aff5-898801978c47','n2');
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
INSERT INTO "tasks" VALUES('bebb2c0a-7296-461c-9b15-28e875829fae','zoe','default','Water the plants','Line one.
Line two.','todo',1,'V0000000','["home","n0"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796115642104,1796115642104,1796115642104,NULL,NULL,'water the plants
line one.
line two.
home
n0');
INSERT INTO "tasks" VALUES('d8df18c5-bb3a-4365-a970-6d01ddfc7292','zoe','default','Grüße an Ömer 🌱','Line one.
Line two.','in_progress',1,'V0000000','["home","n1"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,2,1796115642196,1796115642238,1796115642238,1796115642238,NULL,'grüsse an ömer 🌱
line one.
line two.
home
n1');
INSERT INTO "tasks" VALUES('d1cc621a-b540-4afe-aff5-898801978c47','zoe','default','Review `a<b>`','Line one.
Line two.','todo',1,'V0000001','["home","n2"]','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'none',NULL,1,1796115642306,1796115642306,1796115642306,NULL,NULL,'review `a<b>`
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
INSERT INTO "turns" VALUES('zoe','tour',1,'user','count to 3',NULL,NULL,0,10,1796115642393);
INSERT INTO "turns" VALUES('zoe','tour',2,'assistant','1 2 3',NULL,NULL,0,5,1796115642451);
INSERT INTO "turns" VALUES('zoe','tour',3,'user','count to 5',NULL,NULL,0,10,1796115642606);
INSERT INTO "turns" VALUES('zoe','tour',4,'assistant','1 2 3 4 5',NULL,NULL,0,9,1796115642615);
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
CREATE INDEX responses_by_client ON responses (client_id, created_ms);
CREATE INDEX responses_by_end ON responses (ended_ms);
CREATE INDEX claims_by_end ON task_claims (until_ms);
CREATE INDEX responses_by_conversation ON responses (conversation_id, ended_ms);
CREATE INDEX response_conversations_by_client ON response_conversations (client_id, created_ms);
CREATE UNIQUE INDEX conversation_items_by_id ON conversation_items (conversation_id, id);
COMMIT;
